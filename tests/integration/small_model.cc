#include "tests/integration/small_model.h"

#include "tests/integration/child.h"
#include "tests/testing/byte_level_tokenizer.h"
#include "tests/testing/llama_gguf.h"
#include "tests/testing/random_model.h"

namespace weir {

const std::string& SmallModelPath() {
  static const std::string* const path = [] {
    auto* const name = new std::string(TestFile("small_model.gguf"));
    const NaiveLlamaConfig config = {.layers = 2,
                                     .hidden = 96,
                                     .heads = 6,
                                     .kv_heads = 3,
                                     .head_dim = 16,
                                     .ffn = 192,
                                     .vocabulary = kLeastVocabulary};
    MakeLlamaGguf(MakeRandomModel(config, 7)).WriteFile(*name);
    return name;
  }();
  return *path;
}

std::vector<std::string> SmallServerFlags() {
  return {"--model=" + SmallModelPath(),
          "--sinks=4",
          "--slots=64",
          "--sub-caches=2",
          "--stride=16",
          "--max-sessions=2",
          "--threads=1"};
}

}  // namespace weir
