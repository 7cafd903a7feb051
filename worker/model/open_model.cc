#include "worker/model/open_model.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "worker/model/dummy_model.h"

namespace weir {

absl::StatusOr<std::unique_ptr<GgufFile>> OpenModel(const ModelSource& source) {
  if (source.load_format == "dummy") return MakeDummyModel(source.path, source.layers);
  if (source.load_format != "gguf") {
    return absl::InvalidArgumentError(
        absl::StrCat("load_format is '", source.load_format, "'; there are 'gguf' and 'dummy'"));
  }
  if (source.layers != 0) {
    return absl::InvalidArgumentError("only a dummy model can be cut to its first layers");
  }
  return GgufFile::Open(source.path);
}

}  // namespace weir
