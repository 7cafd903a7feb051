#ifndef WEIR_KERNELS_CUDA_DECODE_DECODE_ADMISSION_CUH_
#define WEIR_KERNELS_CUDA_DECODE_DECODE_ADMISSION_CUH_

// Who goes where when one token is admitted to one head's cache, and the moves: the block of decode
// attention's third launch that does this.

#include "kernels/cascade_policy.h"
#include "kernels/cuda/common/rope.cuh"
#include "kernels/cuda/decode/decode_attention.h"
#include "kernels/cuda/decode/decode_head.cuh"

namespace weir {

// What one admission moves, by ring: the token itself, or what a slot holds, to another slot.
struct DecodeMoves {
  static constexpr int kNothing = -1;
  static constexpr int kToken = -2;
  int sources[DecodeSequence::kMostRings];   // slot, kToken or kNothing
  int targets[DecodeSequence::kMostRings];   // slot
  float scores[DecodeSequence::kMostRings];  // of what is moved
  float token_score;
};

// By one warp; lane i knows ring i. The scores of each ring's newest and oldest slots, which the
// choice depends on, are brought up to date here: the blocks that do it for all other slots leave
// these out, so nobody has to wait for anybody.
__device__ inline void ChooseDecodeMoves(const DecodeHead& head, const float* log2_sums,
                                         DecodeMoves& moves) {
  const DecodeSequence& sequence = head.sequence;
  float* scores = head.attention.scores + head.first_slot();
  const int lane = threadIdx.x % 32;
  DecodeSequence::Ring ring = {.oldest = -1, .newest = -1};
  if (lane < sequence.ring_count) ring = sequence.rings[lane];
  const int slots[3] = {ring.newest, ring.oldest, sequence.cached};
  float before[2] = {};
  if (ring.newest >= 0) {
    before[0] = scores[ring.newest];
    before[1] = scores[ring.oldest];
  }
  float probabilities[3];
  ReducedProbabilities(head, log2_sums, slots, probabilities);
  const float newest_score = UpdatedScore(head, before[0], probabilities[0]);
  const float oldest_score = UpdatedScore(head, before[1], probabilities[1]);
  const float token_score = probabilities[2];
  if (ring.newest >= 0) {
    scores[ring.newest] = newest_score;
    scores[ring.oldest] = oldest_score;
  }
  int arrival = DecodeMoves::kToken;
  float arrival_score = token_score;
  int source = DecodeMoves::kNothing;
  int target = 0;
  float moved_score = 0.0f;
  for (int level = 0; level < sequence.ring_count; ++level) {
    if (!__shfl_sync(0xffffffff, ring.arrives, level)) break;
    if (lane == level) {
      const bool wins = !ring.accepts && ChallengerWins(arrival_score, newest_score);
      if (ring.accepts || wins) {
        source = arrival;
        target = ring.accepts ? ring.next : ring.newest;
        moved_score = arrival_score;
      }
      if (wins) atomicAdd(head.attention.swaps + level, 1ull);
    }
    arrival = __shfl_sync(0xffffffff, ring.oldest, level);
    arrival_score = __shfl_sync(0xffffffff, oldest_score, level);
  }
  moves.sources[lane] = source;
  moves.targets[lane] = target;
  moves.scores[lane] = moved_score;
  if (lane == 0) moves.token_score = token_score;
}

// What a lane holds of a moved key and value.
struct HeldToken {
  float2 low, high;  // of the key, rotated
  uint2 value;
  int64_t token;
};

// One warp makes each move. All that a round moves is read before any of it is written, and the
// deepest rings, which take what the rings before them let go, have the first round.
__device__ inline void MoveTokens(const DecodeHead& head, const DecodeMoves& moves) {
  const DecodeAttention& attention = head.attention;
  const DecodeSequence& sequence = head.sequence;
  const int head_dim = attention.head_dim;
  const int half = head_dim / 2;
  const int lane = threadIdx.x % 32;
  const int64_t first_slot = head.first_slot();
  const __nv_bfloat16* own_key = head.kept_own_key();
  const __nv_bfloat16* own_value = head.kept_own_value();
  const int rounds = (sequence.ring_count + kFinishWarps - 1) / kFinishWarps;
  for (int round = rounds - 1; round >= 0; --round) {
    const int level = round * kFinishWarps + static_cast<int>(threadIdx.x / 32);
    const int source = level < sequence.ring_count ? moves.sources[level] : DecodeMoves::kNothing;
    const int target = level < sequence.ring_count ? moves.targets[level] : 0;
    HeldToken held;
    if (source != DecodeMoves::kNothing) {
      const bool own = source == DecodeMoves::kToken;
      const __nv_bfloat16* key = own ? own_key : attention.keys + (first_slot + source) * head_dim;
      const __nv_bfloat16* value =
          own ? own_value : attention.values + (first_slot + source) * head_dim;
      // A token outside of the cache, and one among the sinks, is rotated by nothing or its slot.
      const int from = own ? 0 : (source - sequence.sinks) % sequence.ring_slots;
      const int to = (target - sequence.sinks) % sequence.ring_slots;
      if (2 * lane < half) {
        const Turn turn = TurnBetween(attention.rope, half, from, to, 2 * lane);
        const float2 a = UnpackPair(key + 2 * lane);
        const float2 b = UnpackPair(key + half + 2 * lane);
        held.low = {a.x * turn.cos.x - b.x * turn.sin.x, a.y * turn.cos.y - b.y * turn.sin.y};
        held.high = {b.x * turn.cos.x + a.x * turn.sin.x, b.y * turn.cos.y + a.y * turn.sin.y};
      }
      if (4 * lane < head_dim) held.value = *reinterpret_cast<const uint2*>(value + 4 * lane);
      if (lane == 0) held.token = own ? sequence.token : attention.tokens[first_slot + source];
    }
    __syncthreads();
    if (source != DecodeMoves::kNothing) {
      __nv_bfloat16* key = attention.keys + (first_slot + target) * head_dim;
      __nv_bfloat16* value = attention.values + (first_slot + target) * head_dim;
      if (2 * lane < half) {
        RoundPair(key + 2 * lane, held.low);
        RoundPair(key + half + 2 * lane, held.high);
      }
      if (4 * lane < head_dim) *reinterpret_cast<uint2*>(value + 4 * lane) = held.value;
      if (lane == 0) {
        attention.scores[first_slot + target] = moves.scores[level];
        attention.tokens[first_slot + target] = held.token;
      }
    }
    __syncthreads();
  }
}

// A token that becomes a sink, rotated by its slot.
__device__ inline void AdmitSink(const DecodeHead& head, float token_score) {
  const DecodeAttention& attention = head.attention;
  const int head_dim = attention.head_dim;
  const int half = head_dim / 2;
  const int slot = head.sequence.sink_slot;
  const int64_t at = head.first_slot() + slot;
  const __nv_bfloat16* own_key = head.kept_own_key();
  const __nv_bfloat16* own_value = head.kept_own_value();
  for (int i = threadIdx.x * 2; i < half; i += kFinishThreads * 2) {
    RotatePairs(own_key, attention.keys + at * head_dim, half, i,
                TurnBy(attention.rope, half, slot, i));
  }
  for (int i = threadIdx.x; i < head_dim; i += kFinishThreads) {
    attention.values[at * head_dim + i] = own_value[i];
  }
  if (threadIdx.x == 0) {
    attention.scores[at] = token_score;
    attention.tokens[at] = head.sequence.token;
  }
}

// By one block.
__device__ inline void AdmitToken(const DecodeHead& head, const float* log2_sums) {
  __shared__ DecodeMoves moves;
  if (threadIdx.x < 32) ChooseDecodeMoves(head, log2_sums, moves);
  __syncthreads();
  if (head.sequence.sink_slot >= 0) {
    AdmitSink(head, moves.token_score);
  } else {
    MoveTokens(head, moves);
  }
}

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_DECODE_DECODE_ADMISSION_CUH_
