#include "tests/worker/model/written_gguf.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

namespace weir {

std::unique_ptr<GgufFile> OpenWrittenGguf(const GgufWriter& writer) {
  const std::string path = absl::StrCat(testing::TempDir(), "/written_", getpid(), ".gguf");
  writer.WriteFile(path);
  auto file = GgufFile::Open(path);
  unlink(path.c_str());
  return std::move(file).value();
}

}  // namespace weir
