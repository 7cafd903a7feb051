#ifndef WEIR_TESTS_TESTING_NAIVE_LLAMA_GGUF_H_
#define WEIR_TESTS_TESTING_NAIVE_LLAMA_GGUF_H_

#include <string>

#include "tests/testing/naive_llama.h"

namespace weir {

// The model of a GGUF file of architecture llama, dequantised, for the naive Llama to run. Tensors
// and metadata that the naive Llama does not know are ignored. Takes 8 bytes a weight. Ends the
// test program if something is missing.
NaiveLlamaModel ReadNaiveLlama(const std::string& path);

}  // namespace weir

#endif  // WEIR_TESTS_TESTING_NAIVE_LLAMA_GGUF_H_
