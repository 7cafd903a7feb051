#ifndef WEIR_WORKER_MODEL_LLAMA_CONFIG_H_
#define WEIR_WORKER_MODEL_LLAMA_CONFIG_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/model/gguf.h"

namespace weir {

// The sizes of a Llama-family model, as its file tells them.
struct LlamaConfig {
  int layers = 0;
  int hidden = 0;       // width of an activation row between layers
  int query_heads = 0;  // a multiple of kv_heads
  int kv_heads = 0;
  int head_dim = 0;      // even
  int feed_forward = 0;  // width inside the feed-forward part
  int vocabulary = 0;    // tokens
  int positions = 0;     // the model was trained for
  float norm_epsilon = 0;

  double rope_base = 0;
  double rope_scale = 1;  // positions are divided by it
  // [head_dim / 2] further divisors of the frequencies (Llama 3.1); empty: all 1.
  std::vector<float> rope_divisors;
};

// Reads the sizes of a file whose architecture is "llama". INVALID_ARGUMENT for missing or
// impossible sizes, UNIMPLEMENTED for another architecture or scaling; messages name file and key.
absl::StatusOr<LlamaConfig> ReadLlamaConfig(const GgufFile& file);

// Which tensor-parallel sizes a model can be cut into: those that divide its query heads, KV heads
// and feed-forward width. In ascending order, starting with 1.
std::vector<int> TensorParallelSizes(const LlamaConfig& config);

// INVALID_ARGUMENT, listing the sizes that are possible, when `size` is not among them.
absl::Status ValidateTensorParallel(const LlamaConfig& config, int size);

}  // namespace weir

#endif  // WEIR_WORKER_MODEL_LLAMA_CONFIG_H_
