#ifndef WEIR_TESTS_WORKER_SERVICE_FAKE_ENGINE_H_
#define WEIR_TESTS_WORKER_SERVICE_FAKE_ENGINE_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "worker/engine/engine.h"

namespace weir {

// An engine without a model: keeps the tokens that sessions read, cut into texts and chunks as the
// real one must, and generates what the test says. Thread-safe.
class FakeEngine : public Engine {
 public:
  struct Session {
    SessionStatus status;
    std::vector<int32_t> unread;               // of the open text, short of a chunk
    std::vector<std::vector<int32_t>> chunks;  // read, in order, answers included
    std::vector<int> text_ends;                // chunks.size() whenever a text ended
    bool closed = false;

    // All tokens read or waiting.
    std::vector<int32_t> Tokens() const;
  };

  explicit FakeEngine(const EngineOptions& options) : options_(options) {}

  // ---- For tests ----

  // The tokens of every generation from now on, and why it ends. The event of the last one comes
  // with the text held back, if any.
  void Generates(std::vector<int32_t> tokens, FinishReason reason);
  // Runs stop before their next event, until Release or their end.
  void Hold();
  void Release();
  // Feeding tokens fails after this many more have been taken; negative: never.
  void FailFeedsAfter(int64_t tokens);
  // What the session is now; a default one if it does not exist and never did.
  Session Get(const std::string& id) const;
  // The options of the last run.
  RunOptions last_run() const;
  // Ids of open sessions.
  std::vector<std::string> OpenIds() const;
  void SetSteps(int64_t steps);

  // ---- Engine ----

  absl::Status OpenSession(const std::string& id, const CascadeConfig& cascade) override;
  absl::Status CloseSession(const std::string& id) override;
  absl::StatusOr<SessionStatus> Describe(const std::string& id) const override;
  absl::StatusOr<std::vector<HeadMemory>> Inspect(const std::string& id, int layer) override;
  absl::StatusOr<std::unique_ptr<Run>> StartRun(const std::string& id,
                                                const RunOptions& options) override;
  int64_t steps() const override;
  absl::Status health() const override;
  absl::Status WaitUntilJoined() override { return absl::OkStatus(); }
  int sessions_open() const override;
  EngineStats stats() const override;
  void Abort(const std::string& reason) override;
  absl::Status Wait() override;

 private:
  friend class FakeRun;

  const EngineOptions options_;
  mutable absl::Mutex mutex_;
  std::map<std::string, std::shared_ptr<Session>> sessions_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, std::shared_ptr<Session>> closed_ ABSL_GUARDED_BY(mutex_);
  std::vector<int32_t> answer_ ABSL_GUARDED_BY(mutex_);
  FinishReason reason_ ABSL_GUARDED_BY(mutex_) = FinishReason::kMaxTokens;
  RunOptions last_run_ ABSL_GUARDED_BY(mutex_);
  bool hold_ ABSL_GUARDED_BY(mutex_) = false;
  int64_t feed_limit_ ABSL_GUARDED_BY(mutex_) = -1;
  int64_t steps_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status health_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace weir

#endif  // WEIR_TESTS_WORKER_SERVICE_FAKE_ENGINE_H_
