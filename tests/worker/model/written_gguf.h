#ifndef WEIR_TESTS_WORKER_MODEL_WRITTEN_GGUF_H_
#define WEIR_TESTS_WORKER_MODEL_WRITTEN_GGUF_H_

#include <memory>

#include "tests/testing/gguf_writer.h"
#include "worker/model/gguf.h"

namespace weir {

// Writes the file to the test's temporary folder and opens it; ends the test program if the file is
// not sound.
std::unique_ptr<GgufFile> OpenWrittenGguf(const GgufWriter& writer);

}  // namespace weir

#endif  // WEIR_TESTS_WORKER_MODEL_WRITTEN_GGUF_H_
