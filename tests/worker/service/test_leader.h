#ifndef WEIR_TESTS_WORKER_SERVICE_TEST_LEADER_H_
#define WEIR_TESTS_WORKER_SERVICE_TEST_LEADER_H_

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "tests/worker/service/fake_engine.h"
#include "worker/model/chat_template.h"
#include "worker/model/tokenizer.h"
#include "worker/service/append.h"
#include "worker/service/leader_state.h"

namespace weir {

// A leader over a fake engine and the small tokenizer of tests/testing: 2 session slots, chunks of
// 4 tokens, 3 ranks, 5 layers.
class TestLeader {
 public:
  TestLeader();

  // Opens a session with the default settings.
  void Open(const std::string& id);

  LeaderState& operator*() { return leader_; }
  FakeEngine& engine() { return engine_; }
  const Tokenizer& tokenizer() const { return *tokenizer_; }
  // The tokens of a plain text.
  std::vector<int32_t> Encode(const std::string& text) const;
  // The text of all tokens that the session has read or that wait, special tokens by name.
  std::string TextOf(const std::string& id) const;

 private:
  absl::StatusOr<ChatTemplate> chat_template_ = absl::UnknownError("not read yet");
  std::unique_ptr<Tokenizer> tokenizer_;
  FakeEngine engine_;
  LeaderState leader_;
};

// A stream of Append with the messages and the end that the test says.
class ScriptedAppendStream : public AppendStream {
 public:
  // kClosed: the last message ends the text.
  enum class End { kClosed, kLeftOpen, kBroken };

  explicit ScriptedAppendStream(std::string session_id, End end = End::kClosed)
      : session_id_(std::move(session_id)), end_(end) {}
  ScriptedAppendStream& Add(int64_t offset, const std::string& text);

  bool Read(v1::AppendRequest* request) override;
  std::function<bool()> cancelled() const override {
    return [flag = cancelled_] { return flag->load(); };
  }
  void Cancel() override { *cancelled_ = true; }

 private:
  const std::string session_id_;
  const End end_;
  std::vector<v1::AppendRequest> messages_;
  size_t next_ = 0;
  const std::shared_ptr<std::atomic<bool>> cancelled_ = std::make_shared<std::atomic<bool>>(false);
};

}  // namespace weir

#endif  // WEIR_TESTS_WORKER_SERVICE_TEST_LEADER_H_
