#include "worker/model/dummy_tokenizer.h"

#include <cassert>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "worker/model/byte_level.h"

namespace weir {
namespace {

constexpr char kChatMl[] =
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\n' }}{% endif %}";

}  // namespace

void AddDummyTokenizer(GgufHeader& header, int vocabulary) {
  assert(vocabulary >= kLeastDummyVocabulary);
  constexpr int32_t kNormal = 1;
  constexpr int32_t kControl = 3;
  std::vector<std::string> tokens = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
  tokens.reserve(vocabulary);
  std::vector<int32_t> types(tokens.size(), kControl);
  for (int byte = 0; byte < 256; ++byte) {
    tokens.push_back(ByteLevelCharacter(static_cast<uint8_t>(byte)));
  }
  const std::string space = ByteLevelCharacter(' ');
  while (tokens.size() < static_cast<size_t>(vocabulary)) {
    tokens.push_back(absl::StrCat(space, tokens.size()));
  }
  types.resize(tokens.size(), kNormal);

  header.AddString("tokenizer.ggml.model", "gpt2");
  header.AddString("tokenizer.ggml.pre", "smollm");
  header.AddStringArray("tokenizer.ggml.tokens", tokens);
  header.AddInt32Array("tokenizer.ggml.token_type", types);
  header.AddStringArray("tokenizer.ggml.merges", {});
  header.AddUint32("tokenizer.ggml.bos_token_id", 1);
  header.AddUint32("tokenizer.ggml.eos_token_id", 2);
  header.AddBool("tokenizer.ggml.add_bos_token", false);
  header.AddString("tokenizer.chat_template", kChatMl);
}

}  // namespace weir
