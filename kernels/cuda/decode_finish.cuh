#ifndef WEIR_KERNELS_CUDA_DECODE_FINISH_CUH_
#define WEIR_KERNELS_CUDA_DECODE_FINISH_CUH_

// The second launch of decode attention: the splits' results become the output, probabilities
// become scores, and the block of a head that ends last admits the token.

#include "kernels/cascade_policy.h"
#include "kernels/cuda/decode_attention.h"
#include "kernels/cuda/dependent_launch.cuh"
#include "kernels/cuda/ptx.h"
#include "kernels/cuda/rope.cuh"

namespace weir {

constexpr int kFinishThreads = 256;
constexpr int kFinishWarps = kFinishThreads / 32;
constexpr int kFinishSlots = 1024;  // whose scores a block updates
constexpr int kMostGroup = 32;      // query heads of a KV head

// One KV head of one sequence.
struct DecodeHead {
  const DecodeAttention& attention;
  const DecodeSequence& sequence;
  int row;
  int kv_head;

  __device__ int group() const { return attention.query_heads / attention.kv_heads; }
  __device__ int64_t first_slot() const {
    return ((static_cast<int64_t>(sequence.cache_slot) * attention.layers + attention.layer) *
                attention.kv_heads +
            kv_head) *
           attention.slots;
  }
  __device__ int splits() const {
    return (sequence.cached + DecodeAttention::kKeysPerSplit) / DecodeAttention::kKeysPerSplit;
  }
  // Of the splits' results.
  __device__ int64_t first_result() const {
    return (static_cast<int64_t>(row) * attention.kv_heads + kv_head) *
           DecodeAttention::Splits(attention.slots) * group();
  }
  __device__ const float* logits(int head) const {
    return attention.logits +
           (static_cast<int64_t>(row) * attention.query_heads + kv_head * group() + head) *
               (attention.slots + 1);
  }
};

// log2 of the sum of 2^logit, of every query head; a warp each.
__device__ inline void CombineSoftmaxes(const DecodeHead& head, float* log2_sums) {
  const int lane = threadIdx.x % 32;
  const int group = head.group();
  const float2* partials = head.attention.partial_softmaxes + head.first_result();
  for (int i = threadIdx.x / 32; i < group; i += kFinishWarps) {
    float largest = -1e30f;
    float sum = 0.0f;
    for (int split = lane; split < head.splits(); split += 32) {
      const float2 partial = partials[static_cast<int64_t>(split) * group + i];
      const float larger = fmaxf(largest, partial.x);
      sum = sum * Exp2(largest - larger) + partial.y * Exp2(partial.x - larger);
      largest = larger;
    }
    for (int distance = 16; distance > 0; distance /= 2) {
      const float other = __shfl_xor_sync(0xffffffff, largest, distance);
      const float other_sum = __shfl_xor_sync(0xffffffff, sum, distance);
      const float larger = fmaxf(largest, other);
      sum = sum * Exp2(largest - larger) + other_sum * Exp2(other - larger);
      largest = larger;
    }
    if (lane == 0) log2_sums[i] = largest + log2f(sum);
  }
}

// This block's share of the output, 32 dimensions of a query head at a time: each warp adds up
// some of the splits.
__device__ inline void CombineOutputs(const DecodeHead& head, const float* log2_sums) {
  __shared__ float parts[kFinishWarps][32];
  const int head_dim = head.attention.head_dim;
  const int group = head.group();
  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  const float* outputs = head.attention.partial_outputs + head.first_result() * head_dim;
  const float2* softmaxes = head.attention.partial_softmaxes + head.first_result();
  __nv_bfloat16* out = head.attention.out + head.row * head.attention.out_stride +
                       static_cast<int64_t>(head.kv_head) * group * head_dim;
  for (int piece = blockIdx.x; piece < group * head_dim / 32; piece += gridDim.x) {
    const int i = piece * 32 + lane;
    const int query_head = i / head_dim;
    float sum = 0.0f;
#pragma unroll 4
    for (int split = warp; split < head.splits(); split += kFinishWarps) {
      const int64_t result = static_cast<int64_t>(split) * group;
      const float weight = Exp2(softmaxes[result + query_head].x - log2_sums[query_head]);
      sum += weight * outputs[result * head_dim + i];
    }
    parts[warp][lane] = sum;
    __syncthreads();
    if (warp == 0) {
      for (int other = 1; other < kFinishWarps; ++other) sum += parts[other][lane];
      out[i] = __float2bfloat16(sum);
    }
    __syncthreads();
  }
}

// The probability of a slot's key, of all query heads together.
__device__ inline float ReducedProbability(const DecodeHead& head, const float* log2_sums,
                                           int slot) {
  const int group = head.group();
  float reduced = 0.0f;
  for (int i = 0; i < group; ++i) {
    const float probability = Exp2(head.logits(i)[slot] - log2_sums[i]);
    reduced = head.sequence.mean ? reduced + probability : fmaxf(reduced, probability);
  }
  return head.sequence.mean ? reduced / static_cast<float>(group) : reduced;
}

__device__ inline void UpdateScores(const DecodeHead& head, const float* log2_sums) {
  float* scores = head.attention.scores + head.first_slot();
  const int first = blockIdx.x * kFinishSlots;
  const int end = min(first + kFinishSlots, head.sequence.cached);
  for (int slot = first + threadIdx.x; slot < end; slot += kFinishThreads) {
    scores[slot] = static_cast<float>(head.sequence.decay * scores[slot] +
                                      ReducedProbability(head, log2_sums, slot));
  }
}

// What one admission moves, by ring: the token itself, or what a slot holds, to another slot.
struct DecodeMoves {
  static constexpr int kNothing = -1;
  static constexpr int kToken = -2;
  int sources[DecodeSequence::kMostRings];  // slot, kToken or kNothing
  int targets[DecodeSequence::kMostRings];  // slot
  float token_score;
};

// By one warp; lane i knows ring i.
__device__ inline void ChooseDecodeMoves(const DecodeHead& head, float token_score,
                                         DecodeMoves& moves) {
  const DecodeSequence& sequence = head.sequence;
  const float* scores = head.attention.scores + head.first_slot();
  const int lane = threadIdx.x % 32;
  DecodeSequence::Ring ring = {};
  int newest = 0, oldest = 0, next = 0;
  float newest_score = 0.0f, oldest_score = 0.0f;
  if (lane < sequence.ring_count) {
    ring = sequence.rings[lane];
    const int first = sequence.sinks + lane * sequence.ring_slots;
    oldest = first + ring.head;
    newest = first + (ring.head + ring.size + sequence.ring_slots - 1) % sequence.ring_slots;
    next = first + (ring.head + ring.size) % sequence.ring_slots;
    if (ring.size > 0) {
      newest_score = __ldcg(scores + newest);
      oldest_score = __ldcg(scores + oldest);
    }
  }
  int arrival = DecodeMoves::kToken;
  float arrival_score = token_score;
  int source = DecodeMoves::kNothing;
  int target = 0;
  for (int level = 0; level < sequence.ring_count; ++level) {
    if (!__shfl_sync(0xffffffff, ring.arrives, level)) break;
    if (lane == level) {
      if (ring.accepts) {
        source = arrival;
        target = next;
      } else if (ChallengerWins(arrival_score, newest_score)) {
        source = arrival;
        target = newest;
        atomicAdd(head.attention.swaps + level, 1ull);
      }
    }
    arrival = __shfl_sync(0xffffffff, oldest, level);
    arrival_score = __shfl_sync(0xffffffff, oldest_score, level);
  }
  moves.sources[lane] = source;
  moves.targets[lane] = target;
}

// What a lane holds of a moved key and value.
struct HeldToken {
  float2 low, high;  // of the key, rotated
  uint2 value;
  float score;
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
  const __nv_bfloat16* own_key =
      attention.qkv + head.row * attention.qkv_stride +
      static_cast<int64_t>(attention.query_heads + head.kv_head) * head_dim;
  const __nv_bfloat16* own_value = own_key + static_cast<int64_t>(attention.kv_heads) * head_dim;
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
      if (lane == 0) {
        held.score = own ? moves.token_score : __ldcg(attention.scores + first_slot + source);
        held.token = own ? sequence.token : attention.tokens[first_slot + source];
      }
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
        attention.scores[first_slot + target] = held.score;
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
  const __nv_bfloat16* own_key =
      attention.qkv + head.row * attention.qkv_stride +
      static_cast<int64_t>(attention.query_heads + head.kv_head) * head_dim;
  const __nv_bfloat16* own_value = own_key + static_cast<int64_t>(attention.kv_heads) * head_dim;
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

// Grid: (parts of the slots, kv_heads, sequences).
__global__ void __launch_bounds__(kFinishThreads)
    DecodeFinishKernel(const __grid_constant__ DecodeAttention attention) {
  __shared__ float log2_sums[kMostGroup];
  __shared__ DecodeMoves moves;
  __shared__ bool last;
  WaitForEarlierKernels();
  AllowLaterKernels();
  const int row = blockIdx.z;
  const DecodeSequence& sequence = attention.sequence[row];
  if (!sequence.active) return;
  const DecodeHead head = {attention, sequence, row, static_cast<int>(blockIdx.y)};
  CombineSoftmaxes(head, log2_sums);
  __syncthreads();
  UpdateScores(head, log2_sums);
  CombineOutputs(head, log2_sums);

  // The head's last block sees what the others did.
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    int* finished = attention.finished_blocks + row * attention.kv_heads + head.kv_head;
    last = atomicAdd(finished, 1) == static_cast<int>(gridDim.x) - 1;
    if (last) *finished = 0;
  }
  __syncthreads();
  if (!last) return;
  __threadfence();
  const float token_score = ReducedProbability(head, log2_sums, sequence.cached);
  if (sequence.sink_slot >= 0) {
    AdmitSink(head, token_score);
    return;
  }
  if (threadIdx.x < 32) {
    ChooseDecodeMoves(head, token_score, moves);
    if (threadIdx.x == 0) moves.token_score = token_score;
  }
  __syncthreads();
  MoveTokens(head, moves);
}

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_DECODE_FINISH_CUH_
