#ifndef WEIR_WORKER_MODEL_LLAMA_WEIGHTS_H_
#define WEIR_WORKER_MODEL_LLAMA_WEIGHTS_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "worker/model/gguf.h"
#include "worker/model/llama_config.h"

namespace weir {

// One rank's part of a layer. With R ranks, a rank holds query_heads / R query heads, the KV heads
// that they share and feed_forward / R inner columns; outputs are partial sums over ranks.
struct LayerWeights {
  Tensor attention_norm;            // [1, hidden]
  std::unique_ptr<Matrix> qkv;      // queries | keys | values of this rank's heads
  std::unique_ptr<Matrix> output;   // hidden rows, this rank's heads as columns
  Tensor feed_forward_norm;         // [1, hidden]
  std::unique_ptr<Matrix> gate_up;  // gate | up of this rank's inner columns
  std::unique_ptr<Matrix> down;     // hidden rows, this rank's inner columns
};

// Consecutive rows of the output projection that one rank holds. All ranks have as many rows, so
// what exceeds the vocabulary on the last ones is padding: rows of zeros.
struct VocabularyShard {
  int first = 0;
  int tokens = 0;  // of the vocabulary; at most `rows`
  int rows = 0;
};

VocabularyShard ShardVocabulary(int vocabulary, int rank, int ranks);

struct LlamaWeights {
  std::unique_ptr<Matrix> embedding;  // a table of the whole vocabulary
  std::vector<LayerWeights> layers;
  Tensor output_norm;              // [1, hidden]
  std::unique_ptr<Matrix> output;  // the rows of `shard`
  VocabularyShard shard;
};

// Gives rank `rank` of `ranks` its part of the file's weights. INVALID_ARGUMENT when `ranks` does
// not divide the model or a tensor is missing or has other dimensions than the config says,
// UNIMPLEMENTED when the file has tensors that this architecture does not use, or what the backend
// says. Messages name file and tensor. The file may be closed afterwards.
absl::StatusOr<LlamaWeights> LoadLlamaWeights(const GgufFile& file, const LlamaConfig& config,
                                              int rank, int ranks, Backend& backend);

}  // namespace weir

#endif  // WEIR_WORKER_MODEL_LLAMA_WEIGHTS_H_
