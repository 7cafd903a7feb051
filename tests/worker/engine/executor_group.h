#ifndef WEIR_TESTS_WORKER_ENGINE_EXECUTOR_GROUP_H_
#define WEIR_TESTS_WORKER_ENGINE_EXECUTOR_GROUP_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "gtest/gtest.h"
#include "kernels/backend.h"
#include "kernels/cascade_config.h"
#include "worker/comm/communicator.h"
#include "worker/engine/step_executor.h"
#include "worker/engine/step_plan.h"
#include "worker/model/llama.h"

namespace weir {

// Writes a small random model that 2 and 3 ranks can share and a GPU can read, and returns its
// path; `name` is the test's.
inline constexpr int kSharedModelLayers = 3;
std::string WriteSharedModel(const std::string& name);

struct ExecutorGroupOptions {
  std::string model_path;
  std::string device = "cpu";  // or "cuda": rank r on GPU r
  int ranks = 1;
  int sessions = 1;
  CascadeConfig cascade;
  // What a rank uses in place of the communicator there is; null: that one. Called by all ranks.
  std::function<std::unique_ptr<Communicator>(std::unique_ptr<Communicator>, Backend&)> wrap;
};

// One rank of a group without an engine: a step executor that checks whether ranks agree, and what
// it needs. The test ends where something cannot be made. Used by one thread.
class ExecutorRank {
 public:
  ExecutorRank(const ExecutorGroupOptions& options, int rank);
  ~ExecutorRank();

  // Before the first step.
  void Join(std::unique_ptr<Communicator> communicator);
  // What ends with the group. Ranks call it at once.
  void Leave();

  int number() const { return model_->rank(); }
  StepExecutor& executor() { return *executor_; }
  Communicator& communicator() { return *communicator_; }
  Backend& backend() { return *backend_; }

  // Validates and executes.
  absl::StatusOr<StepResult> Execute(const StepPlan& plan);
  // As an engine does it: `plan` of rank 0 becomes that of all ranks, then each executes it.
  absl::StatusOr<StepResult> ExecuteLeaders(StepPlan& plan);

 private:
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<LlamaModel> model_;
  std::unique_ptr<Communicator> communicator_;
  std::unique_ptr<StepExecutor> executor_;
};

// Ranks on one kind of device, for a test's parameter; its name, such as "cuda2".
struct GroupCase {
  std::string device;
  int ranks;
};
std::string GroupCaseName(const testing::TestParamInfo<GroupCase>& info);

// Skips cases that this build and this machine have too few GPUs for.
class GroupTest : public testing::TestWithParam<GroupCase> {
 protected:
  void SetUp() override;
};

// Makes a group and calls body(rank) for each of its ranks, on a thread of its own. Nobody leaves
// the group before all are done.
void RunExecutorGroup(const ExecutorGroupOptions& options,
                      const std::function<void(ExecutorRank&)>& body);

}  // namespace weir

#endif  // WEIR_TESTS_WORKER_ENGINE_EXECUTOR_GROUP_H_
