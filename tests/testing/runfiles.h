#ifndef WEIR_TESTS_TESTING_RUNFILES_H_
#define WEIR_TESTS_TESTING_RUNFILES_H_

#include <string>

#include "absl/strings/string_view.h"

namespace weir {

// The path of a file among the `data` of a test, under `bazel test` and when the test's executable
// is run by hand. `file` begins with the repository's name: "weir/tests/testing/golden/x.json".
// Ends the process if there is no such file, since then the target lacks it in its `data`.
std::string Runfile(absl::string_view file);

// The GGUF file of SmolLM2-135M-Instruct (Q4_1). The target needs data = ["@smollm2//:model"].
std::string SmolLm2Path();

}  // namespace weir

#endif  // WEIR_TESTS_TESTING_RUNFILES_H_
