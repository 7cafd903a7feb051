// What an independent program says about SmolLM2-135M-Instruct: golden/make_logprob_golden.py tells
// which, and how.

#ifndef WEIR_TESTS_TESTING_SMOLLM2_GOLDEN_H_
#define WEIR_TESTS_TESTING_SMOLLM2_GOLDEN_H_

#include <string>
#include <vector>

namespace weir {

// The greedy answer to one ChatML prompt.
struct GoldenContinuation {
  std::string prompt;  // rendered, with its special tokens spelled out
  std::vector<int> prompt_tokens;
  std::string continuation;  // 32 tokens; end-of-turn tokens do not stop it
  std::vector<int> continuation_tokens;
  std::vector<double> logprobs;  // natural logarithms, one for each token of the continuation
  std::vector<double> margins;   // by how much its log-probability leads the runner-up's
};

struct SmolLm2Golden {
  std::string text;         // English prose
  std::vector<int> tokens;  // of the text, without a beginning-of-text token
  std::vector<double>
      logprobs;  // logprobs[i] = ln p(tokens[i + 1] | tokens[0..i]); tokens.size() - 1 of them

  // The likeliest next tokens after the first `top_position` tokens, likeliest first.
  int top_position = 0;
  std::vector<int> top_tokens;
  std::vector<double> top_logprobs;

  std::vector<GoldenContinuation> greedy;
};

// Reads the files that the target //tests/testing:smollm2_golden carries as data. Ends the program
// if it cannot.
SmolLm2Golden LoadSmolLm2Golden();

}  // namespace weir

#endif  // WEIR_TESTS_TESTING_SMOLLM2_GOLDEN_H_
