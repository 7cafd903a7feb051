#include "tests/testing/byte_level_tokenizer.h"

#include <cassert>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

namespace weir {
namespace {

constexpr char kChatTemplate[] =
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a test.<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

// A byte as byte-level vocabularies write it.
std::string VisibleByte(int byte) {
  int code_point = byte;
  if (byte <= 32) {
    code_point = 256 + byte;
  } else if (byte >= 127 && byte <= 160) {
    code_point = 256 + 33 + (byte - 127);
  } else if (byte == 173) {
    code_point = 256 + 33 + 34;
  }
  if (code_point < 128) return std::string(1, static_cast<char>(code_point));
  return {static_cast<char>(0xc0 | (code_point >> 6)), static_cast<char>(0x80 | (code_point & 63))};
}

}  // namespace

void AddByteLevelTokenizer(GgufWriter& writer, int vocabulary) {
  assert(vocabulary >= kLeastVocabulary);
  constexpr int32_t kNormal = 1;
  constexpr int32_t kControl = 3;
  std::vector<std::string> tokens = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
  std::vector<int32_t> types(tokens.size(), kControl);
  for (int byte = 0; byte < 256; ++byte) tokens.push_back(VisibleByte(byte));
  const std::string space = VisibleByte(' ');
  const std::vector<std::string> merges = {space + " t",   "h e", "i n",  space + " a",
                                           space + "t he", "n d", "in g", space + "a nd"};
  for (const std::string& merge : merges) {
    std::string merged = merge;
    merged.erase(merged.find(' '), 1);
    tokens.push_back(merged);
  }
  types.resize(tokens.size(), kNormal);
  while (tokens.size() < static_cast<size_t>(vocabulary)) {
    tokens.push_back(absl::StrCat("<|unused_", tokens.size(), "|>"));
  }
  types.resize(tokens.size(), kControl);

  writer.AddString("tokenizer.ggml.model", "gpt2");
  writer.AddString("tokenizer.ggml.pre", "smollm");
  writer.AddStringArray("tokenizer.ggml.tokens", tokens);
  writer.AddInt32Array("tokenizer.ggml.token_type", types);
  writer.AddStringArray("tokenizer.ggml.merges", merges);
  writer.AddUint32("tokenizer.ggml.bos_token_id", 1);
  writer.AddUint32("tokenizer.ggml.eos_token_id", 2);
  writer.AddBool("tokenizer.ggml.add_bos_token", false);
  writer.AddString("tokenizer.chat_template", kChatTemplate);
}

}  // namespace weir
