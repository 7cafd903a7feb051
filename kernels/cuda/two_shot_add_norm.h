#ifndef WEIR_KERNELS_CUDA_TWO_SHOT_ADD_NORM_H_
#define WEIR_KERNELS_CUDA_TWO_SHOT_ADD_NORM_H_

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>

namespace weir {

// What lies between two products of a layer that ranks share, for the many rows of a chunk, in one
// kernel: sum over ranks, residual, norm. Each rank does it for its share of the rows. It reads
// their parts of the sum where the other ranks have them, and writes the normalised rows to where
// all of them need them. So a row is added and normalised once instead of once on every rank, its
// sum never goes to memory, and the links carry both ways at once what an all-reduce would: a
// part of every share in, a normalised share out.
//
// Ranks wait for one another twice: no rank reads before the others' parts are complete, and the
// kernel does not end before all that others read and write here is over. Both are numbers of the
// call that each rank writes into the memory of the others. Calls are numbered in device memory,
// so that a launch can be replayed by a CUDA graph.

constexpr int kTwoShotMostRanks = 8;

// In each rank's memory, written by the others: by rank, the last call for which its part of the
// sum is complete, and the last in which it has done its share.
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
  const __nv_bfloat16* deltas[kTwoShotMostRanks];  // [rows][width], each rank's part of the sum
  __nv_bfloat16* normed[kTwoShotMostRanks];        // [rows][width]
  TwoShotFlags* flags[kTwoShotMostRanks];
  TwoShotCount* count;
  // As of OneShotRanks (one_shot_all_reduce.h).
  const unsigned int* aborted;
  unsigned int* gave_up;
};

// Of the rows from rows * rank / ranks to rows * (rank + 1) / ranks: residual += the sum of the
// ranks' deltas, added in rank order in float32 and rounded once to bfloat16; on every rank normed
// = residual / rms(residual) * weight. The bits are those of a sum over ranks and LaunchRmsNorm.
// residual [rows][width], of which only this rank's rows are read and written. Pointers are aligned
// to 16 bytes; `width` is a multiple of 8. On return of the kernel all of this rank's normed rows
// are complete. Takes part in dependent launches (dependent_launch.cuh).
cudaError_t LaunchTwoShotAddNorm(const TwoShotRanks& ranks, float* residual, const float* weight,
                                 float epsilon, int rows, int width, cudaStream_t stream);

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_TWO_SHOT_ADD_NORM_H_
