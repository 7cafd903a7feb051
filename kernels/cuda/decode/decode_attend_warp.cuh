#ifndef WEIR_KERNELS_CUDA_DECODE_DECODE_ATTEND_WARP_CUH_
#define WEIR_KERNELS_CUDA_DECODE_DECODE_ATTEND_WARP_CUH_

#include <cuda_bf16.h>

#include <cstdint>

#include "kernels/cuda/common/dependent_launch.cuh"
#include "kernels/cuda/common/ptx.h"
#include "kernels/cuda/common/rope.cuh"
#include "kernels/cuda/decode/decode_attention.h"
#include "kernels/cuda/decode/decode_head.cuh"
#include "kernels/cuda/decode/decode_key_tiles.cuh"
#include "kernels/cuda/decode/decode_share.cuh"
#include "kernels/cuda/decode/mma.cuh"

namespace weir {

// One share or two of the keys of one KV head, for up to 8 query heads.
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
  using Result = typename DecodeShare<kHeadDim>::Result;
  using Turns = Turn[kKeyChunks / 2][4];

 public:
  __device__ DecodeAttendWarp(const DecodeAttention& attention, const DecodeSequence& sequence,
                              int row, int kv_head, int first_head, int heads)
      : attention_(attention),
        sequence_(sequence),
        heads_(heads),
        line_(threadIdx.x % 32 / 4),
        column_(threadIdx.x % 4),
        head_(kv_head * (attention.query_heads / attention.kv_heads) + first_head),
        kv_head_(kv_head),
        qkv_(attention.qkv + row * attention.qkv_stride),
        query_(line_ < heads ? qkv_ + static_cast<int64_t>(head_ + line_) * kHeadDim : nullptr),
        first_row_(DecodeHead{attention, sequence, row, kv_head}.first_slot()),
        logits_(attention.scratch.logits +
                (static_cast<int64_t>(row) * attention.query_heads + head_) *
                    (attention.slots + 1)),
        scale_(1.4426950408889634f * rsqrtf(static_cast<float>(kHeadDim))) {}

  // Keys [begin, end) of the sequence, counted through its segments. Afterwards share() is the last
  // share; the one before, if there is one, is in `first`. Returns whether there is.
  // Waits for earlier kernels unless there are no keys.
  __device__ bool Attend(int begin, int end, Result& first) {
    share_.Begin();
    KeyTiles tiles(sequence_, begin, end);
    KeyTile tile = tiles.Next();
    if (tile.count == 0) return false;
    // The cache is as the step before left it; queries and the token's own key are still being
    // computed.
    if (!tile.own) LoadTile(tile);
    Turns turns;
    LoadTurns(tile.rotation, turns);
    WaitForEarlierKernels();
    LoadQuery(turns);
    if (tile.own) LoadTile(tile);
    bool stored = false;
    while (true) {
      const KeyTile next = tiles.Next();
      AttendTile(tile, next);
      if (tile.ends_share) share_.End();
      if (next.count == 0) return stored;
      if (tile.ends_share) {
        share_.Store(first);
        stored = true;
        share_.Begin();
      }
      if (next.rotation >= 0) {
        LoadTurns(next.rotation, turns);
        LoadQuery(turns);
      }
      tile = next;
    }
  }

  __device__ DecodeShare<kHeadDim>& share() { return share_; }

 private:
  // How the query turns, in the order of LoadQuery.
  __device__ void LoadTurns(int rotation, Turns& turns) const {
#pragma unroll
    for (int chunk = 0; chunk < kKeyChunks / 2; ++chunk) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        turns[chunk][i] =
            TurnBy(attention_.rope, kHalf, rotation, 32 * chunk + 8 * column_ + 2 * i);
      }
    }
  }
  // The query of head `line_`, rotated: for each chunk the dimensions 32 * chunk + 8 * column_ + 0
  // .. 7.
  __device__ void LoadQuery(const Turns& turns) {
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
        const Turn& turn = turns[chunk][i];
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

  // Loads 16 bytes that are read once, now: the compiler would put it off until they are needed.
  __device__ static uint4 LoadNow(const __nv_bfloat16* from) {
    uint4 to;
    asm volatile("ld.global.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to.x), "=r"(to.y), "=r"(to.z), "=r"(to.w)
                 : "l"(from));
    return to;
  }
  __device__ void LoadTile(const KeyTile& tile) {
    LoadKeys(tile);
    LoadValues(tile);
  }
  // Keys line_ and line_ + 8 of the tile. Past the end the last one, which is finite, stands in.
  __device__ void LoadKeys(const KeyTile& tile) {
    const __nv_bfloat16* const keys =
        tile.own ? qkv_ + static_cast<int64_t>(attention_.query_heads + kv_head_) * kHeadDim
                 : attention_.keys + (first_row_ + tile.first_slot) * kHeadDim;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int key = min(line_ + 8 * half, tile.count - 1);
#pragma unroll
      for (int chunk = 0; chunk < kKeyChunks; ++chunk) {
        key_rows_[half][chunk] = LoadNow(keys + key * kHeadDim + 8 * column_ + 32 * chunk);
      }
    }
  }
  // The four keys of this column's share of a product's depth.
  __device__ void LoadValues(const KeyTile& tile) {
    const int own_head = attention_.query_heads + attention_.kv_heads + kv_head_;
    const __nv_bfloat16* const values =
        tile.own ? qkv_ + static_cast<int64_t>(own_head) * kHeadDim
                 : attention_.values + (first_row_ + tile.first_slot) * kHeadDim;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int key = min(2 * column_ + i % 2 + i / 2 * 8, tile.count - 1);
#pragma unroll
      for (int chunk = 0; chunk < kValueChunks; ++chunk) {
        value_rows_[i][chunk] = LoadNow(values + key * kHeadDim + 8 * line_ + 64 * chunk);
      }
    }
  }

  // A tile's keys and values are loaded before; they make room for the next one's as soon as they
  // are used.
  __device__ void AttendTile(const KeyTile& tile, const KeyTile& next) {
    float scores[4] = {};
#pragma unroll
    for (int chunk = 0; chunk < kKeyChunks; ++chunk) {
      const uint4& a = key_rows_[0][chunk];
      const uint4& b = key_rows_[1][chunk];
      const uint4& query = queries_[chunk];
      MultiplyAdd16x8x16(scores, a.x, b.x, a.y, b.y, query.x, query.y);
      MultiplyAdd16x8x16(scores, a.z, b.z, a.w, b.w, query.z, query.w);
    }
    if (next.count > 0) LoadKeys(next);

#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int key = line_ + i / 2 * 8;
      scores[i] = key < tile.count ? scores[i] * scale_ : kNoScore;
      const int head = 2 * column_ + i % 2;
      if (key < tile.count && head < heads_) {
        logits_[static_cast<int64_t>(head) * (attention_.slots + 1) + tile.first_slot + key] =
            scores[i];
      }
    }
    share_.Add(scores, value_rows_);
    if (next.count > 0) LoadValues(next);
  }

  const DecodeAttention& attention_;
  const DecodeSequence& sequence_;
  const int heads_;
  const int line_, column_;
  const int head_;  // the block's first
  const int kv_head_;
  const __nv_bfloat16* const qkv_;    // the row of the sequence's token
  const __nv_bfloat16* const query_;  // of head `line_` of the block's, or null
  const int64_t first_row_;           // of the session's keys in all caches
  float* const logits_;
  const float scale_;

  uint4 queries_[kKeyChunks];
  uint4 key_rows_[2][kKeyChunks];
  uint4 value_rows_[4][kValueChunks];
  DecodeShare<kHeadDim> share_;  // the last
};

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_DECODE_DECODE_ATTEND_WARP_CUH_
