#ifndef WEIR_KERNELS_CUDA_PEERS_TWO_SHOT_ADD_NORM_H_
#define WEIR_KERNELS_CUDA_PEERS_TWO_SHOT_ADD_NORM_H_

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>

namespace weir {

// What lies between two products of a layer that ranks share, for the many rows of a chunk, in one
// kernel: sum over ranks, residual, norm. Each rank does it for its share of the rows
// (kernels/row_share.h). Before, every rank has put its part of the sum of these rows into the
// memory of the rank whose share they are, into a slab of its own; the kernel reads them there, and
// writes the normalised rows to where all ranks need them. So a row is added and normalised once
// instead of once on every rank, and of what an all-reduce moves over the links only the second
// half is moved here: the first half goes while products run.
//
// Ranks wait for one another twice. No rank reads its slabs before the others' parts are complete,
// and the kernel does not end before all ranks have read their slabs and written their normed rows.
// Both are numbers of the call that each rank writes into the memory of the others. Calls are
// numbered in device memory, so that a launch can be replayed by a CUDA graph.
//
// So what comes next on a rank's stream may overwrite its slabs in the memory of all ranks: they
// have been read. One slab for each pair of ranks is enough.

constexpr int kTwoShotMostRanks = 8;

// In each rank's memory, written by the others: by rank, the last call for which its parts of the
// sum are complete, wherever they are, and the last in which it has done its share.
struct TwoShotFlags {
  unsigned long long ready[kTwoShotMostRanks];
  unsigned long long done[kTwoShotMostRanks];
};

// In a rank's own memory.
struct TwoShotCount {
  // The number of the last call. Before the first call some number, the same on all ranks, that
  // together with those that follow is in no flag.
  unsigned long long call;
  // Blocks of the running call that have done their rows; 0 between calls.
  unsigned int blocks_done;
};

// A group of ranks, as one of them sees it. Arrays are by rank, each pointer valid on this rank's
// device.
struct TwoShotRanks {
  int rank;
  int ranks;
  // The slabs in this rank's own memory: [rows of its share][width], each rank's part of the sum.
  const __nv_bfloat16* deltas[kTwoShotMostRanks];
  __nv_bfloat16* normed[kTwoShotMostRanks];  // [rows][width], each in that rank's memory
  TwoShotFlags* flags[kTwoShotMostRanks];
  TwoShotCount* count;
  // As of OneShotRanks (one_shot_all_reduce.h).
  const unsigned int* aborted;
  unsigned int* gave_up;
};

// Of this rank's share of the rows: residual += the sum of the ranks' deltas, added in rank order
// in float32 and rounded once to bfloat16; on every rank normed = residual / rms(residual) *
// weight. The bits are those of a sum over ranks and LaunchRmsNorm. residual [rows][width], of
// which only this rank's rows are read and written. Pointers are aligned to 16 bytes; `width` is a
// multiple of 8. What this stream enqueued before are this rank's parts of the sum, in the slabs of
// all ranks. When the kernel ends, all of this rank's normed rows are complete, and nobody reads
// what this rank has written into slabs. Takes part in dependent launches (dependent_launch.cuh).
cudaError_t LaunchTwoShotAddNorm(const TwoShotRanks& ranks, float* residual, const float* weight,
                                 float epsilon, int rows, int width, cudaStream_t stream);

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_PEERS_TWO_SHOT_ADD_NORM_H_
