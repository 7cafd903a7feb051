#include "worker/model/text_stream.h"

#include <cassert>

#include "absl/strings/str_cat.h"
#include "worker/model/utf8.h"

namespace weir {

std::string TextStream::Append(int32_t token) {
  assert(tokenizer_.IsToken(token));
  absl::StrAppend(&incomplete_, tokenizer_.TokenBytes(token));
  std::string text;
  const int left = AppendValidUtf8(incomplete_, &text);
  incomplete_.erase(0, incomplete_.size() - left);
  return text;
}

std::string TextStream::Finish() {
  if (incomplete_.empty()) return "";
  incomplete_.clear();
  return std::string(kReplacementCharacter);
}

}  // namespace weir
