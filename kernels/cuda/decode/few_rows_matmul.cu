// How it works. The weights are the left operand of the tensor cores' product, 16 of them by 16
// columns, and the rows of x the right one, 8 at a time. A block computes some outputs for all
// rows. Its warps share the columns: warp w takes steps w, w + kWarps, ... of kStepCols columns,
// and what the warps have is added in the end, warp by warp. That is the whole order of the sum,
// and it knows nothing of rows or of the number of outputs in a block.
//
// Gated, a tile's 16 products are 8 of the gate and the same 8 of what it gates, so that the block
// that adds them up has both.
//
// The order of columns inside of a product is free if both operands agree, so a lane uses what one
// 16-byte load brings, 8 neighbouring columns, as its share of two products. No lane needs what
// another has loaded: each keeps a ring of copies in flight from its weights to its own places in
// shared memory, with no barrier but its own wait. The ring is what fills the memory's pipes. It
// begins before the earlier kernels have ended, so that their last microseconds load weights
// already.

#include <algorithm>
#include <cassert>

#include "kernels/cuda/common/dependent_launch.cuh"
#include "kernels/cuda/common/device_attribute.h"
#include "kernels/cuda/common/swiglu.cuh"
#include "kernels/cuda/decode/few_rows_matmul.h"
#include "kernels/cuda/decode/mma.cuh"

namespace weir {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * 32;
constexpr int kPieceCols = 8;              // of one 16-byte load
constexpr int kHalfCols = 4 * kPieceCols;  // the 4 lanes that share a weight row
constexpr int kStepCols = 2 * kHalfCols;   // 128 bytes of a row, what memory likes to read
constexpr int kTileProducts = 16;          // of one instruction, for a row of x
constexpr int kTileRows = 8;               // of one instruction
// Pieces of a lane's ring. With 24 two blocks find room in a multiprocessor of compute
// capability 9.0, so that the next kernel fills its ring beside this one, and one everywhere. Sums
// of 3 or 4 by 8 tiles take nearly all of a multiprocessor's registers, and their block takes its
// shared memory as well.
constexpr int RingPieces(int weight_tiles, int row_tiles) {
  return weight_tiles * row_tiles > 16 ? 48 : 24;
}
constexpr int SharedBytes(int weight_tiles, int row_tiles) {
  return RingPieces(weight_tiles, row_tiles) * kThreads * static_cast<int>(sizeof(uint4));
}
static_assert(SharedBytes(2, 4) == 96 * 1024);
// What a tile's products become in the end.
template <bool kGated>
constexpr int kTileOutputs = kGated ? kTileProducts / 2 : kTileProducts;

// Weights are read once: they should leave the second cache before anything else does.
__device__ uint64_t ReadOncePolicy() {
  uint64_t policy;
  asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}

// Starts copying 16 bytes to shared memory, or zeros if not `valid`; `from` may be read either way.
__device__ void StartCopy(uint4* to, const __nv_bfloat16* from, bool valid, uint64_t policy) {
  asm volatile("cp.async.cg.shared.global.L2::cache_hint.L2::128B [%0], [%1], 16, %2, %3;" ::"r"(
                   static_cast<uint32_t>(__cvta_generic_to_shared(to))),
               "l"(from), "r"(valid ? 16 : 0), "l"(policy)
               : "memory");
}
// The copies since the last call become a group; groups end in order.
__device__ void EndCopyGroup() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits until all of this thread's groups but the `kPending` last ones have arrived.
template <int kPending>
__device__ void WaitForCopies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

// One block: 16 * kWeightTiles products, or half as many gated ones, of up to 8 * kRowTiles rows.
template <bool kGated, int kWeightTiles, int kRowTiles>
__global__ void __launch_bounds__(kThreads, kRowTiles <= 4 ? 2 : 1)
    FewRowsKernel(const __grid_constant__ FewRowsMatMul work) {
  constexpr int kOutputs = kWeightTiles * kTileOutputs<kGated>;
  constexpr int kWeightRows = 2 * kWeightTiles;  // of a lane
  constexpr int kPieces = RingPieces(kWeightTiles, kRowTiles);
  constexpr int kWarpPieces = kPieces * 32;
  constexpr int kStages = kPieces / (2 * kWeightRows);
  constexpr int kSumStride = kWeightTiles * kTileProducts + 4;  // no two lanes' meet in a bank
  static_assert(kStages * 2 * kWeightRows == kPieces);
  static_assert(kTileRows * kRowTiles * kSumStride * sizeof(float) <= kWarpPieces * sizeof(uint4));
  extern __shared__ uint4 shared[];
  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  const int group = lane / 4;
  const int first_output = blockIdx.x * kOutputs;
  const int steps = (work.cols + kStepCols - 1) / kStepCols;
  const int first_col = lane % 4 * kPieceCols;
  uint4* const ring = shared + warp * kWarpPieces + lane;  // [kStages][2][kWeightRows], 32 apart

  // Past the end a lane reads the last weights or row again: what comes of them is not stored.
  const __nv_bfloat16* weights[kWeightRows];
#pragma unroll
  for (int i = 0; i < kWeightRows; ++i) {
    const int output = first_output + (kGated ? i / 2 : i) * 8 + group;
    const int64_t row = min(output, work.outputs - 1) + (kGated ? i % 2 * work.outputs : 0);
    weights[i] = work.weights + row * work.cols;
  }
  const uint64_t policy = ReadOncePolicy();
  const auto fetch = [&](int step, int stage) {
    if (step < steps) {
      uint4* const to = ring + stage * 2 * kWeightRows * 32;
      const int col = step * kStepCols + first_col;
#pragma unroll
      for (int i = 0; i < kWeightRows; ++i) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int from = col + half * kHalfCols;
          const bool valid = from < work.cols;
          StartCopy(&to[(half * kWeightRows + i) * 32], weights[i] + (valid ? from : 0), valid,
                    policy);
        }
      }
    }
    EndCopyGroup();
  };
#pragma unroll
  for (int stage = 0; stage < kStages; ++stage) fetch(warp + stage * kWarps, stage);
  AllowLaterKernels();
  WaitForEarlierKernels();

  const __nv_bfloat16* x[kRowTiles];
#pragma unroll
  for (int tile = 0; tile < kRowTiles; ++tile) {
    x[tile] = work.x + min(tile * kTileRows + group, work.rows - 1) * work.x_stride;
  }
  uint4 b[2][kRowTiles];
  const auto load_x = [&](int step) {
    const int col = step * kStepCols + first_col;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int from = col + half * kHalfCols;
#pragma unroll
      for (int tile = 0; tile < kRowTiles; ++tile) {
        b[half][tile] = from < work.cols ? *reinterpret_cast<const uint4*>(x[tile] + from)
                                         : make_uint4(0, 0, 0, 0);
      }
    }
  };
  load_x(warp);
  float sums[kWeightTiles][kRowTiles][4] = {};
  int stage = 0;
  for (int step = warp; step < steps; step += kWarps) {
    WaitForCopies<kStages - 1>();
    const uint4* const place = ring + stage * 2 * kWeightRows * 32;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
      for (int i = 0; i < kWeightTiles; ++i) {
        const uint4 low = place[(half * kWeightRows + 2 * i) * 32];
        const uint4 high = place[(half * kWeightRows + 2 * i + 1) * 32];
#pragma unroll
        for (int tile = 0; tile < kRowTiles; ++tile) {
          const uint4& right = b[half][tile];
          MultiplyAdd16x8x16(sums[i][tile], low.x, high.x, low.y, high.y, right.x, right.y);
          MultiplyAdd16x8x16(sums[i][tile], low.z, high.z, low.w, high.w, right.z, right.w);
        }
      }
    }
    load_x(step + kWarps);
    fetch(step + kStages * kWarps, stage);
    stage = stage + 1 == kStages ? 0 : stage + 1;
  }

  // A warp's sums take the place of its ring: all its copies have arrived, and the other lanes have
  // read theirs.
  __syncwarp();
  const auto warp_sums = [&](int warp) {  // [kTileRows * kRowTiles][kSumStride]
    return reinterpret_cast<float*>(shared + warp * kWarpPieces);
  };
#pragma unroll
  for (int i = 0; i < kWeightTiles; ++i) {
#pragma unroll
    for (int tile = 0; tile < kRowTiles; ++tile) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int row = tile * kTileRows + lane % 4 * 2 + j % 2;
        const int product = i * kTileProducts + j / 2 * 8 + group;
        warp_sums(warp)[row * kSumStride + product] = sums[i][tile][j];
      }
    }
  }
  __syncthreads();
  const auto sum_at = [&](int place) {
    float sum = 0.0f;
#pragma unroll
    for (int from = 0; from < kWarps; ++from) sum += warp_sums(from)[place];
    return sum;
  };
  for (int i = threadIdx.x; i < work.rows * kOutputs; i += kThreads) {
    const int row = i / kOutputs;
    const int output = i % kOutputs;
    if (first_output + output >= work.outputs) continue;
    const int place = row * kSumStride + output / kTileOutputs<kGated> * kTileProducts +
                      output % kTileOutputs<kGated>;
    const int64_t to = row * work.out_stride + first_output + output;
    const float sum = sum_at(place);
    if constexpr (kGated) {
      const float gate = __bfloat162float(__float2bfloat16(sum));
      const float up = __bfloat162float(__float2bfloat16(sum_at(place + kTileOutputs<kGated>)));
      static_cast<__nv_bfloat16*>(work.out)[to] = __float2bfloat16(SwiGlu(gate, up));
    } else if (work.out_is_float32) {
      static_cast<float*>(work.out)[to] = sum;
    } else {
      static_cast<__nv_bfloat16*>(work.out)[to] = __float2bfloat16(sum);
    }
  }
}

// How many tiles of outputs, from `least` to `most`, a block takes on a card that has room for
// `places` blocks. What counts is how often all places are filled, and what a block reads: weights,
// and all of x. No result depends on this choice.
int ChooseWeightTiles(const FewRowsMatMul& work, int least, int most, int64_t places) {
  const int products = work.gated ? 2 * work.outputs : work.outputs;
  int best = 0;
  int64_t best_cost = 0;
  for (int tiles = least; tiles <= most; ++tiles) {
    const int block_products = tiles * kTileProducts;
    const int64_t blocks = (products + block_products - 1) / block_products;
    const int64_t rounds = (blocks + places - 1) / places;
    const int64_t cost = rounds * (block_products + work.rows);
    if (best > 0 && cost >= best_cost) continue;
    best = tiles;
    best_cost = cost;
  }
  return best;
}

template <bool kGated, int kWeightTiles, int kRowTiles>
cudaError_t Launch(const FewRowsMatMul& work, cudaStream_t stream) {
  const auto kernel = FewRowsKernel<kGated, kWeightTiles, kRowTiles>;
  constexpr int kBytes = SharedBytes(kWeightTiles, kRowTiles);
  const cudaError_t error =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
  if (error != cudaSuccess) return error;
  const int outputs = kWeightTiles * kTileOutputs<kGated>;
  return LaunchDependent(kernel, dim3((work.outputs + outputs - 1) / outputs), dim3(kThreads),
                         kBytes, stream, work);
}

template <bool kGated, int kRowTiles>
cudaError_t LaunchTiled(const FewRowsMatMul& work, int multiprocessors, cudaStream_t stream) {
  int tiles;
  if constexpr (kRowTiles <= 4) {
    tiles = ChooseWeightTiles(work, 1, 3, 2 * multiprocessors);
    if (tiles == 1) return Launch<kGated, 1, kRowTiles>(work, stream);
  } else {
    int shared_bytes = 0;
    const cudaError_t error =
        GetDeviceAttribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, shared_bytes);
    if (error != cudaSuccess) return error;
    // A block of 1 by 8 would read four times as much of x as of weights.
    const int most = shared_bytes >= SharedBytes(4, kRowTiles) ? 4 : 2;
    tiles = ChooseWeightTiles(work, 2, most, multiprocessors);
    if (tiles == 4) return Launch<kGated, 4, kRowTiles>(work, stream);
  }
  if (tiles == 3) return Launch<kGated, 3, kRowTiles>(work, stream);
  return Launch<kGated, 2, kRowTiles>(work, stream);
}

template <bool kGated>
cudaError_t LaunchRows(const FewRowsMatMul& work, int multiprocessors, cudaStream_t stream) {
  if (work.rows <= 8) return LaunchTiled<kGated, 1>(work, multiprocessors, stream);
  if (work.rows <= 16) return LaunchTiled<kGated, 2>(work, multiprocessors, stream);
  if (work.rows <= 32) return LaunchTiled<kGated, 4>(work, multiprocessors, stream);
  return LaunchTiled<kGated, 8>(work, multiprocessors, stream);
}

}  // namespace

cudaError_t LaunchFewRowsMatMul(const FewRowsMatMul& work, cudaStream_t stream) {
  assert(work.rows >= 1 && work.rows <= FewRowsMatMul::kMostRows);
  assert(work.outputs >= 1);
  assert(!work.gated || !work.out_is_float32);
  assert(work.cols >= kPieceCols && work.cols % kPieceCols == 0);
  assert(work.x_stride % kPieceCols == 0);
  assert(reinterpret_cast<uintptr_t>(work.x) % sizeof(uint4) == 0);
  assert(reinterpret_cast<uintptr_t>(work.weights) % sizeof(uint4) == 0);
  int multiprocessors = 0;
  const cudaError_t error = GetDeviceAttribute(cudaDevAttrMultiProcessorCount, multiprocessors);
  if (error != cudaSuccess) return error;
  return work.gated ? LaunchRows<true>(work, multiprocessors, stream)
                    : LaunchRows<false>(work, multiprocessors, stream);
}

}  // namespace weir
