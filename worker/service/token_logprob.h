#ifndef WEIR_WORKER_SERVICE_TOKEN_LOGPROB_H_
#define WEIR_WORKER_SERVICE_TOKEN_LOGPROB_H_

#include <cmath>
#include <cstdint>
#include <string>

#include "weir/v1/generation.pb.h"
#include "worker/engine/run.h"
#include "worker/model/tokenizer.h"

namespace weir {

inline void SetToken(const Tokenizer& tokenizer, int32_t token, v1::TokenLogprob* out) {
  out->set_token(token);
  out->set_token_bytes(std::string(tokenizer.TokenBytes(token)));
}

// A log-probability that is NaN is one that does not exist.
inline void SetTokenLogprob(const Tokenizer& tokenizer, const TokenLogprob& token,
                            v1::TokenLogprob* out) {
  SetToken(tokenizer, token.token, out);
  if (!std::isnan(token.logprob)) out->set_logprob(token.logprob);
}

}  // namespace weir

#endif  // WEIR_WORKER_SERVICE_TOKEN_LOGPROB_H_
