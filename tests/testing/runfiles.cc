#include "tests/testing/runfiles.h"

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace weir {

std::string Runfile(absl::string_view file) {
  // Bazel sets TEST_SRCDIR for a test that it runs itself; otherwise the tree is beside the
  // executable.
  const char* test_srcdir = std::getenv("TEST_SRCDIR");
  const std::string root =
      test_srcdir != nullptr
          ? test_srcdir
          : std::filesystem::read_symlink("/proc/self/exe").string() + ".runfiles";
  const std::string path = absl::StrCat(root, "/", file);
  if (!std::filesystem::exists(path)) {
    std::fprintf(stderr, "no such file among the test's data: %s\n", path.c_str());
    std::abort();
  }
  return path;
}

std::string SmolLm2Path() { return Runfile("smollm2/model.gguf"); }

}  // namespace weir
