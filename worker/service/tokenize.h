#ifndef WEIR_WORKER_SERVICE_TOKENIZE_H_
#define WEIR_WORKER_SERVICE_TOKENIZE_H_

#include "absl/status/statusor.h"
#include "weir/v1/generation.pb.h"
#include "worker/model/tokenizer.h"

namespace weir {

// INVALID_ARGUMENT: the text is not UTF-8.
absl::StatusOr<v1::TokenizeResponse> Tokenize(const Tokenizer& tokenizer,
                                              const v1::TokenizeRequest& request);

// INVALID_ARGUMENT: a number that is no token.
absl::StatusOr<v1::DetokenizeResponse> Detokenize(const Tokenizer& tokenizer,
                                                  const v1::DetokenizeRequest& request);

}  // namespace weir

#endif  // WEIR_WORKER_SERVICE_TOKENIZE_H_
