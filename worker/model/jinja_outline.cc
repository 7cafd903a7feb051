#include "worker/model/jinja_outline.h"

#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"

namespace weir {
namespace {

constexpr absl::string_view::size_type kNone = absl::string_view::npos;

// A word of code: a name, number, operator or bracket, or a string with its escapes resolved.
struct Word {
  bool is_string = false;
  std::string text;
};

absl::Status Unreadable(absl::string_view what) {
  return absl::UnimplementedError(absl::StrCat("the template has ", what));
}

bool IsNameCharacter(char c) { return absl::ascii_isalnum(c) || c == '_'; }

// The string that `code` begins with; removes it from `code`.
absl::StatusOr<Word> TakeString(absl::string_view& code) {
  const char quote = code[0];
  Word word{.is_string = true};
  for (size_t i = 1; i < code.size(); ++i) {
    if (code[i] == quote) {
      code.remove_prefix(i + 1);
      return word;
    }
    if (code[i] != '\\') {
      word.text.push_back(code[i]);
      continue;
    }
    if (++i == code.size()) break;
    constexpr absl::string_view kEscapes = "ntr\\'\"";
    constexpr absl::string_view kMeanings = "\n\t\r\\'\"";
    const size_t escape = kEscapes.find(code[i]);
    if (escape == kNone) return Unreadable(absl::StrCat("the escape \\", code.substr(i, 1)));
    word.text.push_back(kMeanings[escape]);
  }
  return Unreadable("a string without an end");
}

absl::StatusOr<std::vector<Word>> ReadWords(absl::string_view code) {
  std::vector<Word> words;
  while (true) {
    code = absl::StripLeadingAsciiWhitespace(code);
    if (code.empty()) return words;
    if (code[0] == '\'' || code[0] == '"') {
      absl::StatusOr<Word> word = TakeString(code);
      if (!word.ok()) return word.status();
      words.push_back(*std::move(word));
      continue;
    }
    size_t length = 0;
    while (length < code.size() && IsNameCharacter(code[length])) ++length;
    if (length == 0) {
      const absl::string_view two = code.substr(0, 2);
      if (two == "==" || two == "!=") {
        length = 2;
      } else if (absl::string_view("+.[]()=,").find(code[0]) != kNone) {
        length = 1;
      } else {
        return Unreadable(absl::StrCat("the operator '", code.substr(0, 1), "'"));
      }
    }
    words.push_back({.text = std::string(code.substr(0, length))});
    code.remove_prefix(length);
  }
}

// Words [begin, end) as one line of code.
std::string Canonical(const std::vector<Word>& words, size_t begin, size_t end) {
  std::string code;
  bool glue = true;  // no space before the next word
  for (size_t i = begin; i < end; ++i) {
    const bool subscript = !words[i].is_string && words[i].text == "[";
    if (subscript && i + 2 < end && words[i + 1].is_string && words[i + 2].text == "]") {
      absl::StrAppend(&code, ".", words[i + 1].text);
      i += 2;
      glue = false;
      continue;
    }
    const bool bracket = !words[i].is_string && words[i].text.size() == 1 &&
                         absl::string_view(".[]()").find(words[i].text[0]) != kNone;
    if (!glue && !bracket) code.push_back(' ');
    if (words[i].is_string) {
      absl::StrAppend(&code, "\"",
                      absl::StrReplaceAll(words[i].text, {{"\\", "\\\\"}, {"\"", "\\\""}}), "\"");
    } else {
      absl::StrAppend(&code, words[i].text);
    }
    glue = bracket && words[i].text != "]" && words[i].text != ")";
  }
  return code;
}

class OutlineReader {
 public:
  explicit OutlineReader(absl::string_view source) : rest_(source) {}

  absl::StatusOr<std::vector<JinjaStep>> Read() {
    while (!rest_.empty()) {
      const size_t tag = FindTag();
      AddText(rest_.substr(0, tag), tag);
      if (tag == kNone) break;
      const char kind = rest_[tag + 1];
      rest_.remove_prefix(tag + 2);
      if (kind == '#') return Unreadable("a comment");
      if (absl::Status status = ReadTag(kind == '%'); !status.ok()) return status;
    }
    return std::move(steps_);
  }

 private:
  size_t FindTag() const {
    for (size_t i = rest_.find('{'); i != kNone; i = rest_.find('{', i + 1)) {
      const absl::string_view tag = rest_.substr(i, 2);
      if (tag == "{{" || tag == "{%" || tag == "{#") return i;
    }
    return kNone;
  }

  // Text up to the tag at `tag`, less the white space that the tags on both sides take.
  void AddText(absl::string_view text, size_t tag) {
    if (strip_next_) text = absl::StripLeadingAsciiWhitespace(text);
    if (trim_newline_ && !text.empty() && text[0] == '\n') text.remove_prefix(1);
    if (tag == kNone) {
      // Jinja drops one newline at the end of a template.
      if (!text.empty() && text.back() == '\n') text.remove_suffix(1);
    } else if (rest_.substr(tag + 2, 1) == "-") {
      text = absl::StripTrailingAsciiWhitespace(text);
    } else if (rest_[tag + 1] == '%' && rest_.substr(tag + 2, 1) != "+") {
      const size_t line = text.find_last_not_of(" \t");
      const bool begins_line = line == kNone ? at_line_start_ : text[line] == '\n';
      if (begins_line) text = text.substr(0, line == kNone ? 0 : line + 1);
    }
    AddLiteral(text);
  }

  absl::Status ReadTag(bool statement) {
    const absl::string_view closing = statement ? "%}" : "}}";
    const size_t end = FindEnd(closing);
    if (end == kNone) return Unreadable(absl::StrCat("no ", closing, " for a tag"));
    absl::string_view code = rest_.substr(0, end);
    rest_.remove_prefix(end + 2);
    if (!code.empty() && (code.front() == '-' || code.front() == '+')) code.remove_prefix(1);
    strip_next_ = !code.empty() && code.back() == '-';
    if (strip_next_) code.remove_suffix(1);
    trim_newline_ = statement;
    at_line_start_ = statement && rest_.substr(0, 1) == "\n";
    const absl::StatusOr<std::vector<Word>> words = ReadWords(code);
    if (!words.ok()) return words.status();
    if (statement) {
      steps_.push_back({JinjaStep::Kind::kStatement, Canonical(*words, 0, words->size())});
    } else {
      AddOutput(*words);
    }
    return absl::OkStatus();
  }

  // Where `closing` stands outside strings.
  size_t FindEnd(absl::string_view closing) const {
    char quote = 0;
    for (size_t i = 0; i < rest_.size(); ++i) {
      const char c = rest_[i];
      if (quote != 0) {
        if (c == '\\') ++i;
        if (c == quote) quote = 0;
      } else if (c == '\'' || c == '"') {
        quote = c;
      } else if (rest_.substr(i, 2) == closing) {
        return i;
      }
    }
    return kNone;
  }

  // The terms of a sum, each a step of its own.
  void AddOutput(const std::vector<Word>& words) {
    size_t begin = 0;
    for (size_t i = 0; i <= words.size(); ++i) {
      if (i < words.size() && (words[i].is_string || words[i].text != "+")) continue;
      if (i == begin + 1 && words[begin].is_string) {
        AddLiteral(words[begin].text);
      } else {
        steps_.push_back({JinjaStep::Kind::kExpression, Canonical(words, begin, i)});
      }
      begin = i + 1;
    }
  }

  void AddLiteral(absl::string_view text) {
    if (text.empty()) return;
    if (!steps_.empty() && steps_.back().kind == JinjaStep::Kind::kLiteral) {
      absl::StrAppend(&steps_.back().text, text);
    } else {
      steps_.push_back({JinjaStep::Kind::kLiteral, std::string(text)});
    }
  }

  absl::string_view rest_;
  std::vector<JinjaStep> steps_;
  bool strip_next_ = false;    // the tag before ended with -
  bool trim_newline_ = false;  // the tag before was a statement
  bool at_line_start_ = true;  // nothing but white space since the line began
};

}  // namespace

absl::StatusOr<std::vector<JinjaStep>> ReadJinjaOutline(absl::string_view source) {
  if (source.find('\r') != kNone) return Unreadable("a carriage return");
  return OutlineReader(source).Read();
}

}  // namespace weir
