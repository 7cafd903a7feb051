#ifndef WEIR_WORKER_MODEL_HUGGING_FACE_CONFIG_H_
#define WEIR_WORKER_MODEL_HUGGING_FACE_CONFIG_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "worker/model/llama_config.h"

namespace weir {

// What the config.json of a Hugging Face model tells of a Llama.
struct HuggingFaceConfig {
  LlamaConfig llama;  // rope_divisors are those of rope_scaling "llama3"
  bool tied_embeddings = false;
};

// Reads a config.json, which is taken as hostile: sizes are checked one by one (at most
// 1,024 layers, 2^22 tokens, 2^24 positions, 2^20 for every other width and count), so that the
// weights of a tensor fit an int64.
// INVALID_ARGUMENT for what is no JSON object, missing, of another type or out of range,
// UNIMPLEMENTED for an architecture other than LlamaForCausalLM and MistralForCausalLM, a sliding
// window, biases, and kinds of rope_scaling other than default, linear and llama3; messages name
// file and key. NOT_FOUND, PERMISSION_DENIED as MappedFile::Open.
absl::StatusOr<HuggingFaceConfig> ReadHuggingFaceConfig(const std::string& path);

// The same of the file's text; `path` is for messages.
absl::StatusOr<HuggingFaceConfig> ParseHuggingFaceConfig(const std::string& path,
                                                         absl::string_view text);

}  // namespace weir

#endif  // WEIR_WORKER_MODEL_HUGGING_FACE_CONFIG_H_
