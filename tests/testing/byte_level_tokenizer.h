#ifndef WEIR_TESTS_TESTING_BYTE_LEVEL_TOKENIZER_H_
#define WEIR_TESTS_TESTING_BYTE_LEVEL_TOKENIZER_H_

#include "tests/testing/gguf_writer.h"

namespace weir {

// 3 special tokens, 256 bytes, 8 merges.
inline constexpr int kLeastVocabulary = 3 + 256 + 8;

// Adds a small but complete tokenizer of `vocabulary` tokens, at least kLeastVocabulary: kind gpt2,
// pre-tokenizer smollm, a ChatML template whose system message is "You are a test." Tokens are
// <|endoftext|> (0), <|im_start|> (1, beginning of text), <|im_end|> (2, end of text), one for
// every byte (3 + byte), then the merges " t", "he", "in", " a", " the", "nd", "ing", " and"
// (259 to 266) and unused control tokens.
void AddByteLevelTokenizer(GgufWriter& writer, int vocabulary = kLeastVocabulary);

}  // namespace weir

#endif  // WEIR_TESTS_TESTING_BYTE_LEVEL_TOKENIZER_H_
