#include "tests/testing/small_config.h"

#include "tests/testing/gguf_writer.h"

namespace weir {

nlohmann::ordered_json SmallConfig() {
  return {{"architectures", {"LlamaForCausalLM"}},
          {"hidden_act", "silu"},
          {"num_hidden_layers", 3},
          {"hidden_size", 64},
          {"num_attention_heads", 4},
          {"num_key_value_heads", 2},
          {"head_dim", 32},
          {"intermediate_size", 96},
          {"vocab_size", 300},
          {"max_position_embeddings", 4096},
          {"rms_norm_eps", 1e-5},
          {"rope_theta", 10000.0},
          {"rope_scaling", nullptr},
          {"tie_word_embeddings", false}};
}

void WriteConfig(const std::string& path, const nlohmann::ordered_json& config) {
  WriteFileOrDie(path, config.dump(2));
}

}  // namespace weir
