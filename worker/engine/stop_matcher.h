#ifndef WEIR_WORKER_ENGINE_STOP_MATCHER_H_
#define WEIR_WORKER_ENGINE_STOP_MATCHER_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"

namespace weir {

// Looks for the first of some stop texts in a text that comes in pieces. What may still become a
// stop text is held back. Pieces and stop texts are valid UTF-8, and so is what is returned. Not
// thread-safe.
class StopMatcher {
 public:
  // None of `stop` is empty.
  explicit StopMatcher(std::vector<std::string> stop) : stop_(std::move(stop)) {}

  // Takes the next piece. Returns the text that is certain to come before any stop text. Not to be
  // called any more once a stop text is found.
  std::string Append(absl::string_view piece);

  // Whether a stop text is complete; what came from its first byte on is dropped.
  bool found() const { return found_; }

  // There are no more pieces: returns what was held back.
  std::string Finish();

 private:
  std::vector<std::string> stop_;
  std::string held_;
  bool found_ = false;
};

}  // namespace weir

#endif  // WEIR_WORKER_ENGINE_STOP_MATCHER_H_
