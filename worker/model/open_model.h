#ifndef WEIR_WORKER_MODEL_OPEN_MODEL_H_
#define WEIR_WORKER_MODEL_OPEN_MODEL_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "worker/model/gguf.h"

namespace weir {

// Where a model comes from.
struct ModelSource {
  std::string path;
  // What is at `path`. "gguf": a GGUF file. "dummy": a Hugging Face config.json, whose weights are
  // random (MakeDummyModel).
  std::string load_format = "gguf";
  int layers = 0;  // of a dummy, only the first so many; 0: all
};

// INVALID_ARGUMENT for another format or a cut model that is no dummy; else as GgufFile::Open or
// MakeDummyModel.
absl::StatusOr<std::unique_ptr<GgufFile>> OpenModel(const ModelSource& source);

}  // namespace weir

#endif  // WEIR_WORKER_MODEL_OPEN_MODEL_H_
