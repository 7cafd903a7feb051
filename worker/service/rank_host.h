#ifndef WEIR_WORKER_SERVICE_RANK_HOST_H_
#define WEIR_WORKER_SERVICE_RANK_HOST_H_

#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/comm/rendezvous.h"
#include "worker/engine/engine.h"

namespace weir {

// A worker's place in one generation of its group.
struct GroupPlace {
  int64_t generation = 0;
  int rank = 0;
  int size = 1;
};

// What a worker runs while it is part of a group. Driven by GroupMember's thread.
class RankHost {
 public:
  virtual ~RankHost() = default;

  // The rank whose weights are in memory, if any.
  virtual std::optional<int> held_rank() const = 0;

  // Meets the other ranks and starts this one's engine, which stays until Stop. Blocks; calls on
  // `rendezvous` fail when the group is over before it was complete. Errors that another attempt
  // may not have: UNAVAILABLE, DEADLINE_EXCEEDED, CANCELLED, FAILED_PRECONDITION. Any other is
  // final.
  virtual absl::StatusOr<Engine*> Start(const GroupPlace& place, Rendezvous& rendezvous) = 0;

  // Called several times a second between Start and Stop.
  virtual void OnRunning() = 0;

  // Ends what Start began, because of `reason` (UNAVAILABLE), which calls in progress get.
  virtual void Stop(const absl::Status& reason) = 0;
};

}  // namespace weir

#endif  // WEIR_WORKER_SERVICE_RANK_HOST_H_
