#ifndef WEIR_CLI_BENCH_GROUP_H_
#define WEIR_CLI_BENCH_GROUP_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/comm/communicator.h"
#include "worker/comm/in_memory_rendezvous.h"
#include "worker/engine/engine.h"
#include "worker/engine/rank.h"

namespace weir {

// All ranks of a tensor-parallel group inside this process, for `weir bench`: on the CPU they sum
// in memory, on GPUs (one for each rank) as the ranks of `weir worker` do. One thread.
class BenchGroup {
 public:
  // Loads `options.tensor_parallel` ranks at the same time; rank r, on a GPU, on `options.gpu` + r.
  // Only rank 0's engine tells `options.engine.observer`. Errors as Rank::Load.
  static absl::StatusOr<std::unique_ptr<BenchGroup>> Load(const RankOptions& options);
  // Ends the engines by the leader's word, then what joins the ranks.
  ~BenchGroup();
  BenchGroup(const BenchGroup&) = delete;
  BenchGroup& operator=(const BenchGroup&) = delete;

  // Connects the ranks and starts their engines, once. Errors as ConnectNcclCommunicator; when a
  // rank fails, the others give up at once.
  absl::Status Start();

  int size() const { return static_cast<int>(ranks_.size()); }
  const Rank& leader() const { return *ranks_[0]; }
  // The leader's, which takes the calls, after Start.
  Engine& engine() { return *engines_[0]; }
  // Sessions that all ranks have memory for, those they were loaded for included. Before Start.
  absl::StatusOr<int64_t> SessionsThatFit() const;
  // Bytes that one session's cache takes on all ranks.
  int64_t session_bytes() const;

  // What to say of a call of engine() that failed with `status`: if the group is over, why, as each
  // rank saw it.
  absl::Status Explain(const absl::Status& status);

 private:
  explicit BenchGroup(const RankOptions& options);

  absl::Status LoadRank(RankOptions options, int rank);
  absl::Status ConnectGpus();
  absl::Status ConnectGpu(int rank, InMemoryRendezvous& rendezvous);

  // By rank.
  std::vector<std::unique_ptr<Rank>> ranks_;
  std::vector<std::unique_ptr<Communicator>> communicators_;
  std::vector<std::unique_ptr<Engine>> engines_;
};

}  // namespace weir

#endif  // WEIR_CLI_BENCH_GROUP_H_
