#ifndef WEIR_WORKER_SERVICE_APPENDED_TEXT_H_
#define WEIR_WORKER_SERVICE_APPENDED_TEXT_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "worker/model/streaming_encoder.h"
#include "worker/model/tokenizer.h"

namespace weir {

// The texts that Append brought to one session: how far they were received, and the tokens on their
// way to the engine. It makes Append idempotent, and lets a text that a broken stream left open go
// on with the same tokens as if the stream had held.
//
//   kNone --Receive--> kOpen --End--> kEnding --Ended--> kNone
//                      | ^
//                      +-+ Receive; a stream may break and another go on
//
// `offset` everywhere: bytes since the session began, all texts together. Used by one call at a
// time; only appended_bytes() and open() may be asked by other threads meanwhile.
class AppendedText {
 public:
  enum class State {
    kNone,    // no text, or all of the last one is read
    kOpen,    // more of the text may come
    kEnding,  // the text is whole; the engine may not have read all of it
  };

  // `tokenizer` outlives this.
  explicit AppendedText(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  State state() const { return state_; }

  // A piece of the text that begins at `offset`; what was received before is skipped. Not while
  // kEnding. `begins_session`: the session has no token yet, so a text that begins now gets the
  // token that the model wants there.
  //   OUT_OF_RANGE      bytes before `offset` are missing; nothing happened
  //   INVALID_ARGUMENT  not UTF-8, naming the offset, up to which the piece was received
  absl::Status Receive(int64_t offset, absl::string_view bytes, bool begins_session);

  // The stream broke: bytes of an incomplete character are forgotten, so that the text goes on at
  // appended_bytes(). (Within one stream a character may be split between pieces.)
  void Break() { incomplete_.clear(); }

  // The text, if one is open, is whole: its last tokens become pending. INVALID_ARGUMENT if it ends
  // inside a character: then it stays open.
  absl::Status End();

  // The engine has read all of it.
  void Ended();

  // Tokens that the engine does not have yet, in order. The caller takes from its front what it has
  // given to the engine.
  std::vector<int32_t>& pending() { return pending_; }

  // Bytes received, in whole characters.
  int64_t appended_bytes() const { return appended_bytes_.load(std::memory_order_relaxed); }
  // Whether the text may go on.
  bool open() const { return open_.load(std::memory_order_relaxed); }

 private:
  void SetState(State state);

  const Tokenizer& tokenizer_;
  State state_ = State::kNone;
  std::unique_ptr<StreamingEncoder> encoder_;  // while kOpen
  std::string incomplete_;                     // 0 to 3 bytes of a character
  std::vector<int32_t> pending_;
  std::atomic<int64_t> appended_bytes_{0};
  std::atomic<bool> open_{false};
};

}  // namespace weir

#endif  // WEIR_WORKER_SERVICE_APPENDED_TEXT_H_
