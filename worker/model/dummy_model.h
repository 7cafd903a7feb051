#ifndef WEIR_WORKER_MODEL_DUMMY_MODEL_H_
#define WEIR_WORKER_MODEL_DUMMY_MODEL_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "worker/model/gguf.h"

namespace weir {

// A Llama of the sizes of a Hugging Face config.json with random bfloat16 weights (norms are ones)
// and the tokenizer of AddDummyTokenizer: for benchmarks of shapes whose weights are not at hand.
// It computes what a trained model of these sizes computes, in the same time, and says nothing.
//
// A tensor is a window of one pool of random weights, at a place that its name tells, so memory is
// that of the largest tensor and a little more, whatever the model. The weights, and the
// fingerprint, depend on the sizes alone: ranks on different machines make the same model.
//
// `layers`, unless 0, cuts the model to its first so many. Errors as ReadHuggingFaceConfig;
// INVALID_ARGUMENT for a vocabulary too small for the tokenizer, a tensor of more than 16 GiB or
// more layers than there are; RESOURCE_EXHAUSTED when memory does not suffice.
absl::StatusOr<std::unique_ptr<GgufFile>> MakeDummyModel(const std::string& config_path,
                                                         int layers = 0);

}  // namespace weir

#endif  // WEIR_WORKER_MODEL_DUMMY_MODEL_H_
