#ifndef WEIR_KERNELS_CUDA_PEERS_ONE_SHOT_CALL_CUH_
#define WEIR_KERNELS_CUDA_PEERS_ONE_SHOT_CALL_CUH_

// What kernels that work as one_shot_all_reduce.h tells send and receive.

#include <cstdint>

#include "kernels/cuda/peers/one_shot_all_reduce.h"
#include "kernels/cuda/peers/peer_wait.cuh"

namespace weir {

struct Packet {
  unsigned long long data;
  unsigned long long call;
};
static_assert(sizeof(Packet) == 16);

// Accesses of 128 bits as a whole, in the memory of whatever device.
__device__ inline void StorePacket(Packet* to, const Packet& packet) {
  asm volatile(
      "{\n"
      ".reg .b128 packet;\n"
      "mov.b128 packet, {%1, %2};\n"
      "st.relaxed.sys.global.b128 [%0], packet;\n"
      "}\n" ::"l"(to),
      "l"(packet.data), "l"(packet.call)
      : "memory");
}
__device__ inline Packet LoadPacket(const Packet* from) {
  Packet packet;
  asm volatile(
      "{\n"
      ".reg .b128 packet;\n"
      "ld.relaxed.sys.global.b128 packet, [%2];\n"
      "mov.b128 {%0, %1}, packet;\n"
      "}\n"
      : "=l"(packet.data), "=l"(packet.call)
      : "l"(from)
      : "memory");
  return packet;
}

__device__ inline unsigned long long Join(uint2 bits) {
  return static_cast<unsigned long long>(bits.y) << 32 | bits.x;
}
__device__ inline uint2 Split(unsigned long long data) {
  return make_uint2(static_cast<unsigned int>(data), static_cast<unsigned int>(data >> 32));
}

// One call, as a thread sees it. Made by all threads of all blocks.
class OneShotCall {
 public:
  __device__ explicit OneShotCall(const OneShotRanks& ranks) : ranks_(ranks) {
    number_ = __ldcg(ranks.calls + blockIdx.x) + 1;
    gave_up_ = __ldcg(ranks.gave_up) != 0;
    // Blocks count for those that are not there this time: a block that reads its counter finds the
    // calls of all sizes in it. Nobody but this block reads or writes these counters in this call.
    __syncthreads();
    for (int block = blockIdx.x + gridDim.x * threadIdx.x; block < kOneShotMostBlocks;
         block += gridDim.x * blockDim.x) {
      ranks.calls[block] = number_;
    }
  }

  __device__ bool gave_up_before() const { return gave_up_; }

  // To all others, as a packet of this place in their boxes; the next rank first, so that not all
  // send to the same one at once.
  __device__ void Send(int64_t place, uint2 bits) const {
    for (int distance = 1; distance < ranks_.ranks; ++distance) {
      const int peer = (ranks_.rank + distance) % ranks_.ranks;
      StorePacket(Box(peer, ranks_.rank) + place, {Join(bits), number_});
    }
  }

  // Gives take(rank, bits) what every rank has sent to these places, in rank order, waiting for the
  // others; `own` is what this rank has sent.
  template <int kCount, typename Take>
  __device__ void Receive(const int64_t (&places)[kCount], const uint2 (&own)[kCount],
                          Take take) const {
    Packet packets[kOneShotMostRanks][kCount];
    // All loads are on their way before the first is looked at.
#pragma unroll
    for (int rank = 0; rank < kOneShotMostRanks; ++rank) {
      if (!IsPeer(rank)) continue;
#pragma unroll
      for (int i = 0; i < kCount; ++i) {
        packets[rank][i] = LoadPacket(Box(ranks_.rank, rank) + places[i]);
      }
    }
#pragma unroll
    for (int rank = 0; rank < kOneShotMostRanks; ++rank) {
      if (rank == ranks_.rank) take(rank, own);
      if (!IsPeer(rank)) continue;
      uint2 bits[kCount];
#pragma unroll
      for (int i = 0; i < kCount; ++i) {
        bits[i] = Split(Await(packets[rank][i], Box(ranks_.rank, rank) + places[i]));
      }
      take(rank, bits);
    }
  }

 private:
  __device__ bool IsPeer(int rank) const { return rank < ranks_.ranks && rank != ranks_.rank; }

  // Where `to` finds what `from` sends in this call.
  __device__ Packet* Box(int to, int from) const {
    constexpr int64_t kBoxBytes = 2 * kOneShotMostBytes;
    const int64_t box = static_cast<int64_t>(number_ % 2) * ranks_.ranks + from;
    return reinterpret_cast<Packet*>(ranks_.inboxes[to] + box * kBoxBytes);
  }

  __device__ unsigned long long Await(Packet packet, const Packet* from) const {
    for (int look = 1; packet.call != number_; ++look) {
      if (GivesUp(look, ranks_.aborted, ranks_.gave_up)) break;
      packet = LoadPacket(from);
    }
    return packet.data;
  }

  const OneShotRanks& ranks_;
  unsigned long long number_;
  bool gave_up_;
};

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_PEERS_ONE_SHOT_CALL_CUH_
