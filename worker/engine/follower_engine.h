#ifndef WEIR_WORKER_ENGINE_FOLLOWER_ENGINE_H_
#define WEIR_WORKER_ENGINE_FOLLOWER_ENGINE_H_

#include <memory>
#include <string>
#include <vector>

#include "worker/engine/engine_base.h"

namespace weir {

// The engine of every rank but the leader: executes the plans that the leader broadcasts until one
// of them says stop, makes no sense, or a collective fails.
class FollowerEngine : public EngineBase {
 public:
  FollowerEngine(const EngineOptions& options, Communicator* communicator, StepExecutor* executor);
  ~FollowerEngine() override;

  absl::Status OpenSession(const std::string& id, const CascadeConfig& cascade) override;
  absl::Status CloseSession(const std::string& id) override;
  absl::StatusOr<SessionStatus> Describe(const std::string& id) const override;
  absl::StatusOr<std::vector<HeadMemory>> Inspect(const std::string& id, int layer) override;
  absl::StatusOr<std::unique_ptr<Run>> StartRun(const std::string& id,
                                                const RunOptions& options) override;
  int sessions_open() const override { return 0; }

 private:
  absl::Status Loop() override;
};

}  // namespace weir

#endif  // WEIR_WORKER_ENGINE_FOLLOWER_ENGINE_H_
