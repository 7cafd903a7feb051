#ifndef WEIR_TESTS_TESTING_LLAMA_GGUF_H_
#define WEIR_TESTS_TESTING_LLAMA_GGUF_H_

#include "kernels/weight_type.h"
#include "tests/testing/gguf_writer.h"
#include "tests/testing/naive_llama.h"

namespace weir {

// How a model's tensors are stored. With quantised types the model's weights must be such that the
// type holds them without loss (MakeRandomModel makes such), or the file holds another model.
struct LlamaGgufOptions {
  WeightType matrices = WeightType::kF32;
  WeightType embedding = WeightType::kF32;  // and the classifier
  int positions = 4096;                     // that the model claims to be trained for
};

// A complete model file of architecture llama: sizes, all tensors (rows of queries and keys in
// GGUF's order, which interleaves the halves of a head) and, where the vocabulary has room for it
// (kLeastVocabulary), the tokenizer of AddByteLevelTokenizer.
GgufWriter MakeLlamaGguf(const NaiveLlamaModel& model, const LlamaGgufOptions& options = {});

}  // namespace weir

#endif  // WEIR_TESTS_TESTING_LLAMA_GGUF_H_
