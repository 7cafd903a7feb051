#ifndef WEIR_KERNELS_CUDA_DECODE_DECODE_ATTEND_WARP_CUH_
#define WEIR_KERNELS_CUDA_DECODE_DECODE_ATTEND_WARP_CUH_

#include <cuda_bf16.h>

#include <cstdint>

#include "kernels/cuda/common/dependent_launch.cuh"
#include "kernels/cuda/common/ptx.h"
#include "kernels/cuda/common/rope.cuh"
#include "kernels/cuda/decode/decode_attention.h"
#include "kernels/cuda/decode/decode_key_runs.cuh"
#include "kernels/cuda/decode/mma.cuh"

namespace weir {

constexpr int kDecodeWarps = 4;
constexpr int kDecodeHeads = 8;  // query heads of a block
constexpr int kDecodeTile = 16;  // keys
// Less than any score, and finite.
constexpr float kNoScore = -1e30f;

// A warp's share of the keys of one KV head, for up to 8 query heads.
//
// Memory is what bounds decode, so keys and values go straight from device memory to the registers
// that the tensor cores read, 16 bytes a lane, with no shared memory between. Both products permute
// what they may: over a key's dimensions the first is a sum, and the second's rows are dimensions,
// whose order is settled when they are stored.
//   scores [16 keys][8 heads]  = keys [16][dims] * queries^T [dims][8]
//   output [dims][8 heads]    += values^T [dims][16 keys] * probabilities [16 keys][8 heads]
// The scores' accumulators, transposed in the warp, are the second product's right-hand side.
template <int kHeadDim>
class DecodeAttendWarp {
  static constexpr int kKeyChunks = kHeadDim / 32;    // of 32 dimensions, 8 for each lane of a line
  static constexpr int kValueChunks = kHeadDim / 64;  // of 64 dimensions, 8 for each line
  static constexpr int kHalf = kHeadDim / 2;

 public:
  struct Shared {
    float maxima[kDecodeWarps][kDecodeHeads];
    float sums[kDecodeWarps][kDecodeHeads];
    float outputs[kDecodeWarps][kDecodeHeads][kHeadDim + 4];
  };

  __device__ DecodeAttendWarp(const DecodeAttention& attention, const DecodeSequence& sequence,
                              int row, int kv_head, int first_head, int heads)
      : attention_(attention),
        heads_(heads),
        lane_(threadIdx.x % 32),
        line_(lane_ / 4),
        column_(lane_ % 4),
        head_(kv_head * (attention.query_heads / attention.kv_heads) + first_head),
        qkv_(attention.qkv + row * attention.qkv_stride),
        query_(line_ < heads ? qkv_ + static_cast<int64_t>(head_ + line_) * kHeadDim : nullptr),
        runs_(attention, sequence, qkv_, kv_head),
        logits_(attention.scratch.logits +
                (static_cast<int64_t>(row) * attention.query_heads + head_) *
                    (attention.slots + 1)),
        scale_(1.4426950408889634f * rsqrtf(static_cast<float>(kHeadDim))) {}

  // Keys [begin, end) of the sequence, counted through its runs. Waits for earlier kernels unless
  // there are none.
  __device__ void Attend(int begin, int end) {
#pragma unroll
    for (auto& chunk : output_) {
#pragma unroll
      for (auto& tile : chunk) {
#pragma unroll
        for (float& value : tile) value = 0.0f;
      }
    }
    bool waited = false;
    int run_begin = 0;
    for (int i = 0; i <= runs_.own() && run_begin < end; ++i) {
      const KeyRun run = runs_[i];
      const int first = max(begin - run_begin, 0);
      const int last = min(end - run_begin, run.count);
      run_begin += run.count;
      if (first >= last) continue;
      // The cache is as the step before left it; queries and the token's own key are still being
      // computed.
      const bool own = i == runs_.own();
      if (!own) LoadKeys(run, first, last);
      if (!waited) WaitForEarlierKernels();
      waited = true;
      if (own) LoadKeys(run, first, last);
      AttendRun(run, first, last);
    }
    sums_[0] = LineSum(sums_[0]);
    sums_[1] = LineSum(sums_[1]);
  }

  // This warp's results for the block.
  __device__ void Store(Shared& shared, int warp) const {
    if (line_ == 0) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        shared.maxima[warp][2 * column_ + i] = maxima_[i];
        shared.sums[warp][2 * column_ + i] = sums_[i];
      }
    }
#pragma unroll
    for (int chunk = 0; chunk < kValueChunks; ++chunk) {
#pragma unroll
      for (int tile = 0; tile < 4; ++tile) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int dim = 64 * chunk + 8 * line_ + 2 * tile + i / 2;
          shared.outputs[warp][2 * column_ + i % 2][dim] = output_[chunk][tile][i];
        }
      }
    }
  }

 private:
  // Over the lanes of a column: all keys of a tile, for the column's two heads.
  __device__ static float LineMax(float value) {
    value = fmaxf(value, __shfl_xor_sync(0xffffffff, value, 4));
    value = fmaxf(value, __shfl_xor_sync(0xffffffff, value, 8));
    return fmaxf(value, __shfl_xor_sync(0xffffffff, value, 16));
  }
  __device__ static float LineSum(float value) {
    value += __shfl_xor_sync(0xffffffff, value, 4);
    value += __shfl_xor_sync(0xffffffff, value, 8);
    return value + __shfl_xor_sync(0xffffffff, value, 16);
  }

  // The query of head `line_`, rotated: for each chunk the dimensions 32 * chunk + 8 * column_ + 0
  // .. 7.
  __device__ void LoadQuery(int rotation) {
    if (query_ == nullptr) {
#pragma unroll
      for (uint4& chunk : queries_) chunk = {0, 0, 0, 0};
      return;
    }
#pragma unroll
    for (int chunk = 0; chunk < kKeyChunks / 2; ++chunk) {
      const int dim = 32 * chunk + 8 * column_;
      const uint4 low = *reinterpret_cast<const uint4*>(query_ + dim);
      const uint4 high = *reinterpret_cast<const uint4*>(query_ + kHalf + dim);
      const uint32_t lows[4] = {low.x, low.y, low.z, low.w};
      const uint32_t highs[4] = {high.x, high.y, high.z, high.w};
      uint32_t new_lows[4], new_highs[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const Turn turn = TurnBy(attention_.rope, kHalf, rotation, dim + 2 * i);
        const float2 a = {LowOfPair(lows[i]), HighOfPair(lows[i])};
        const float2 b = {LowOfPair(highs[i]), HighOfPair(highs[i])};
        new_lows[i] =
            PackBFloat16(a.x * turn.cos.x - b.x * turn.sin.x, a.y * turn.cos.y - b.y * turn.sin.y);
        new_highs[i] =
            PackBFloat16(b.x * turn.cos.x + a.x * turn.sin.x, b.y * turn.cos.y + a.y * turn.sin.y);
      }
      queries_[chunk] = {new_lows[0], new_lows[1], new_lows[2], new_lows[3]};
      queries_[kKeyChunks / 2 + chunk] = {new_highs[0], new_highs[1], new_highs[2], new_highs[3]};
    }
  }

  // Keys first + line_ and first + line_ + 8 of the run. Past the end the last one, which is
  // finite, stands in.
  __device__ void LoadKeys(const KeyRun& run, int first, int end) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int key = min(first + line_ + 8 * half, end - 1);
      const __nv_bfloat16* from = run.keys + static_cast<int64_t>(key) * kHeadDim + 8 * column_;
#pragma unroll
      for (int chunk = 0; chunk < kKeyChunks; ++chunk) {
        key_rows_[half][chunk] = *reinterpret_cast<const uint4*>(from + 32 * chunk);
      }
    }
  }
  // The four keys of this column's share of a product's depth.
  __device__ void LoadValues(const KeyRun& run, int first, int end) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int key = min(first + 2 * column_ + i % 2 + i / 2 * 8, end - 1);
      const __nv_bfloat16* from = run.values + static_cast<int64_t>(key) * kHeadDim + 8 * line_;
#pragma unroll
      for (int chunk = 0; chunk < kValueChunks; ++chunk) {
        value_rows_[i][chunk] = *reinterpret_cast<const uint4*>(from + 64 * chunk);
      }
    }
  }

  // The first tile's keys are loaded already.
  __device__ void AttendRun(const KeyRun& run, int begin, int end) {
    LoadQuery(run.rotation);
    for (int first = begin; first < end; first += kDecodeTile) {
      LoadValues(run, first, end);
      float scores[4] = {};
#pragma unroll
      for (int chunk = 0; chunk < kKeyChunks; ++chunk) {
        const uint4& a = key_rows_[0][chunk];
        const uint4& b = key_rows_[1][chunk];
        const uint4& query = queries_[chunk];
        MultiplyAdd16x8x16(scores, a.x, b.x, a.y, b.y, query.x, query.y);
        MultiplyAdd16x8x16(scores, a.z, b.z, a.w, b.w, query.z, query.w);
      }
      if (first + kDecodeTile < end) LoadKeys(run, first + kDecodeTile, end);

#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int key = first + line_ + i / 2 * 8;
        scores[i] = key < end ? scores[i] * scale_ : kNoScore;
        const int head = 2 * column_ + i % 2;
        if (key < end && head < heads_) {
          logits_[static_cast<int64_t>(head) * (attention_.slots + 1) + run.first_slot + key] =
              scores[i];
        }
      }
      float decays[2];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const float largest = fmaxf(maxima_[i], LineMax(fmaxf(scores[i], scores[i + 2])));
        decays[i] = Exp2(maxima_[i] - largest);
        maxima_[i] = largest;
        scores[i] = Exp2(scores[i] - largest);
        scores[i + 2] = Exp2(scores[i + 2] - largest);
        sums_[i] = sums_[i] * decays[i] + scores[i] + scores[i + 2];
      }
      const uint32_t near = Transpose8x8(PackBFloat16(scores[0], scores[1]));
      const uint32_t far = Transpose8x8(PackBFloat16(scores[2], scores[3]));
#pragma unroll
      for (int chunk = 0; chunk < kValueChunks; ++chunk) {
        AddValues<0>(chunk, decays, near, far);
        AddValues<1>(chunk, decays, near, far);
        AddValues<2>(chunk, decays, near, far);
        AddValues<3>(chunk, decays, near, far);
      }
    }
  }

  template <int kPair>
  __device__ static uint32_t PairOf(const uint4& values) {
    if constexpr (kPair == 0) return values.x;
    if constexpr (kPair == 1) return values.y;
    if constexpr (kPair == 2) return values.z;
    return values.w;
  }
  // Dimensions 64 * chunk + 8 * line + 2 * kPair and the next.
  template <int kPair>
  __device__ void AddValues(int chunk, const float (&decays)[2], uint32_t near, uint32_t far) {
    float(&output)[4] = output_[chunk][kPair];
#pragma unroll
    for (int i = 0; i < 4; ++i) output[i] *= decays[i % 2];
    const uint32_t a = PairOf<kPair>(value_rows_[0][chunk]);
    const uint32_t b = PairOf<kPair>(value_rows_[1][chunk]);
    const uint32_t c = PairOf<kPair>(value_rows_[2][chunk]);
    const uint32_t d = PairOf<kPair>(value_rows_[3][chunk]);
    MultiplyAdd16x8x16(output, LowHalves(a, b), HighHalves(a, b), LowHalves(c, d), HighHalves(c, d),
                       near, far);
  }

  const DecodeAttention& attention_;
  const int heads_;
  const int lane_, line_, column_;
  const int head_;                    // the block's first
  const __nv_bfloat16* const qkv_;    // the row of the sequence's token
  const __nv_bfloat16* const query_;  // of head `line_` of the block's, or null
  const KeyRuns<kHeadDim> runs_;
  float* const logits_;
  const float scale_;

  uint4 queries_[kKeyChunks];
  uint4 key_rows_[2][kKeyChunks];
  uint4 value_rows_[4][kValueChunks];
  float output_[kValueChunks][4][4];
  // Of heads 2 * column_ and the next.
  float maxima_[2] = {kNoScore, kNoScore};
  float sums_[2] = {0.0f, 0.0f};
};

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_DECODE_DECODE_ATTEND_WARP_CUH_
