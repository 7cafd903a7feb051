#ifndef WEIR_WORKER_COMM_COMMUNICATOR_H_
#define WEIR_WORKER_COMM_COMMUNICATOR_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/tensor.h"

namespace weir {

// Rows that ranks of a group write into each other's memory; see SumAddRmsNorm. As long as the
// communicator lives.
struct SharedRows {
  // By rank: where this rank puts its part of the sum, for that rank's share of the rows
  // (kernels/row_share.h), the share's first row first. [the most rows of a share, cols]. Those of
  // other ranks lie in their memory and are only to be written. Before that Poll is asked: a rank
  // that was stopped for long and has been given up should not write there any more.
  std::vector<Tensor> deltas;
  Tensor normed;  // [rows, cols]
};

// Joins the ranks of one tensor-parallel group. Every rank makes the same calls in the same order.
//
// Tensor collectives are enqueued on the backend's stream where there is one (so they can be
// captured in a CUDA graph) and are complete on return where there is none. A lost or silent peer
// ends a call with UNAVAILABLE naming the rank if known; after any error every later call fails.
// Driven by the engine's thread; only Abort may be called from another thread.
class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;

  // x = sum of x over ranks, in place; every rank gets the same bits.
  virtual absl::Status AllReduceSum(Tensor x) = 0;
  // The same in two steps, for a long sum that other work is to hide: what is enqueued between them
  // runs beside the sum and leaves x alone; what is enqueued after FinishSum sees the sum that was
  // started first of those not finished. Not while a step is recorded.
  virtual absl::Status StartSum(Tensor x) { return AllReduceSum(x); }
  virtual absl::Status FinishSum() { return absl::OkStatus(); }
  // Whether StartSum leaves anything to run beside other work.
  virtual bool overlaps() const { return false; }
  // Whether AllReduceAddRmsNorm takes `rows` rows of `cols` of the backend's activations.
  virtual bool FusesNorm(int64_t /*rows*/, int64_t /*cols*/) const { return false; }
  // AllReduceSum of delta and AddRmsNorm of the backend in one: residual += the sum over ranks of
  // delta; normed = RmsNorm(residual, weight, epsilon). The same bits, but delta stays as it is.
  virtual absl::Status AllReduceAddRmsNorm(Tensor /*residual*/, Tensor /*delta*/, Tensor /*weight*/,
                                           float /*epsilon*/, Tensor /*normed*/) {
    return absl::UnimplementedError("sums and norms are apart");
  }
  // Memory for SumAddRmsNorm: `rows` rows of `cols` of the backend's activations. Called before
  // anything is recorded; what writes into it is not recorded, which Poll could not precede.
  // Nothing where such sums have no faster way than AllReduceSum.
  virtual absl::StatusOr<std::optional<SharedRows>> ShareRows(int64_t /*rows*/, int64_t /*cols*/) {
    return std::nullopt;
  }
  // For as many of the first shared rows as `residual` [rows, cols] float32 has, more than a few:
  // residual += the sum over ranks of their deltas; normed = RmsNorm(residual, weight, epsilon),
  // see kernels/backend.h. Every rank gets all of normed, but keeps the residual of its share of
  // the rows only. What is enqueued afterwards may overwrite deltas, whose content is undefined
  // until then. Only after ShareRows has given rows.
  virtual absl::Status SumAddRmsNorm(Tensor /*residual*/, Tensor /*weight*/, float /*epsilon*/) {
    return absl::UnimplementedError("no rows are shared");
  }
  // `out` = the ranks' `x` one after the other: size() blocks shaped like x. out.rows = size() *
  // x.rows.
  virtual absl::Status AllGather(Tensor x, Tensor out) = 0;
  // `bytes` of rank 0 to every rank. Host memory.
  virtual absl::Status Broadcast(std::string& bytes) = 0;
  // Every rank's `bytes`, by rank, on rank 0; an empty vector on the others. Host memory; lengths
  // may differ. Not for the decode path.
  virtual absl::StatusOr<std::vector<std::string>> Gather(const std::string& bytes) = 0;

  // Whether the group is well, as far as can be told without waiting: a peer whose connection has
  // ended is lost. Asked again and again by whoever waits for the backend's stream, which a
  // collective of a lost peer would keep from ever ending. Once the group is over, what is left in
  // the stream ends soon, and its results mean nothing: they count only if the group was well after
  // them.
  virtual absl::Status Poll() = 0;

  // Makes the call in progress and all later ones fail with CANCELLED or UNAVAILABLE. Any thread.
  virtual void Abort() = 0;
};

}  // namespace weir

#endif  // WEIR_WORKER_COMM_COMMUNICATOR_H_
