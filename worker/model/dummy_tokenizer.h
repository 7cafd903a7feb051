#ifndef WEIR_WORKER_MODEL_DUMMY_TOKENIZER_H_
#define WEIR_WORKER_MODEL_DUMMY_TOKENIZER_H_

#include "worker/model/gguf_header.h"

namespace weir {

// 3 special tokens and 256 bytes.
inline constexpr int kLeastDummyVocabulary = 3 + 256;

// Adds a complete tokenizer of `vocabulary` tokens, at least kLeastDummyVocabulary, that nobody
// trained: <|endoftext|> (0), <|im_start|> (1, beginning of text), <|im_end|> (2, end of text), one
// token for every byte (3 + byte), then " 259", " 260" and so on, which a model may generate but no
// text is encoded to; a ChatML template.
void AddDummyTokenizer(GgufHeader& header, int vocabulary);

}  // namespace weir

#endif  // WEIR_WORKER_MODEL_DUMMY_TOKENIZER_H_
