#include <algorithm>
#include <cassert>

#include "kernels/cuda/dependent_launch.cuh"
#include "kernels/cuda/one_shot_all_reduce.h"
#include "kernels/cuda/peer_wait.cuh"
#include "kernels/cuda/tensor_group.cuh"

namespace weir {
namespace {

// Small blocks: already a row is spread over several multiprocessors, each with links of its own.
constexpr int kThreads = 256;

struct Packet {
  unsigned long long data;
  unsigned long long call;
};
static_assert(sizeof(Packet) == 16);

// Accesses of 128 bits as a whole, in the memory of whatever device.
__device__ void StorePacket(Packet* to, const Packet& packet) {
  asm volatile(
      "{\n"
      ".reg .b128 packet;\n"
      "mov.b128 packet, {%1, %2};\n"
      "st.relaxed.sys.global.b128 [%0], packet;\n"
      "}\n" ::"l"(to),
      "l"(packet.data), "l"(packet.call)
      : "memory");
}
__device__ Packet LoadPacket(const Packet* from) {
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

__device__ unsigned long long Join(uint2 bits) {
  return static_cast<unsigned long long>(bits.y) << 32 | bits.x;
}
__device__ uint2 Split(unsigned long long data) {
  return make_uint2(static_cast<unsigned int>(data), static_cast<unsigned int>(data >> 32));
}

// One call, as a thread sees it. Made by all threads of all blocks.
class Call {
 public:
  __device__ explicit Call(const OneShotRanks& ranks) : ranks_(ranks) {
    number_ = __ldcg(ranks.calls + blockIdx.x) + 1;
    gave_up_ = __ldcg(ranks.gave_up) != 0;
    // Blocks count for those that are not there this time: a block that reads its counter finds the
    // calls of all sizes in it. Nobody but this block reads or writes these counters in this call.
    __syncthreads();
    for (int block = blockIdx.x + gridDim.x * threadIdx.x; block < kOneShotMostBlocks;
         block += gridDim.x * kThreads) {
      ranks.calls[block] = number_;
    }
  }

  __device__ bool gave_up_before() const { return gave_up_; }

  // To all others; the next rank first, so that not all send to the same one at once.
  __device__ void Send(int64_t group, uint2 bits) const {
    for (int distance = 1; distance < ranks_.ranks; ++distance) {
      const int peer = (ranks_.rank + distance) % ranks_.ranks;
      StorePacket(Box(peer, ranks_.rank) + group, {Join(bits), number_});
    }
  }

  // Gives take(rank, bits) the group of every rank, in rank order, waiting for the others'; `own`
  // is this rank's.
  template <typename Take>
  __device__ void Receive(int64_t group, uint2 own, Take take) const {
    Packet packets[kOneShotMostRanks];
    // All loads are on their way before the first is looked at.
#pragma unroll
    for (int rank = 0; rank < kOneShotMostRanks; ++rank) {
      if (IsPeer(rank)) packets[rank] = LoadPacket(Box(ranks_.rank, rank) + group);
    }
#pragma unroll
    for (int rank = 0; rank < kOneShotMostRanks; ++rank) {
      if (rank == ranks_.rank) take(rank, own);
      if (IsPeer(rank)) {
        take(rank, Split(Await(packets[rank], Box(ranks_.rank, rank) + group)));
      }
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

// Sends the groups of `x` that are this thread's, then calls receive(call, group, own) for each.
// Sending waits for nobody, so no rank and no block waits for one that waits for it.
template <typename T, typename Receive>
__device__ void Exchange(const OneShotRanks& ranks, const T* x, int64_t elements, Receive receive) {
  WaitForEarlierKernels();
  AllowLaterKernels();
  const int64_t groups = GroupsIn<T>(elements);
  const int64_t first = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const int64_t threads = int64_t{gridDim.x} * kThreads;
  // A thread's first group, for few rows its only one, is loaded while the call is being counted.
  uint2 first_bits = {};
  if (first < groups) first_bits = LoadGroup(x, first, elements);
  const auto own = [&](int64_t group) {
    return group == first ? first_bits : LoadGroup(x, group, elements);
  };
  const Call call(ranks);
  if (call.gave_up_before()) return;
  for (int64_t group = first; group < groups; group += threads) call.Send(group, own(group));
  for (int64_t group = first; group < groups; group += threads) receive(call, group, own(group));
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    SumKernel(const __grid_constant__ OneShotRanks ranks, T* x, int64_t elements) {
  Exchange<T>(ranks, x, elements, [&](const Call& call, int64_t group, uint2 own) {
    GroupSum<T> sum;
    call.Receive(group, own, [&](int rank, uint2 bits) {
      if (rank == 0) {
        sum.Begin(bits);
      } else {
        sum.Add(bits);
      }
    });
    StoreGroup(sum.Rounded(), x, group, elements);
  });
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    GatherKernel(const __grid_constant__ OneShotRanks ranks, const T* x, int64_t elements, T* out) {
  Exchange<T>(ranks, x, elements, [&](const Call& call, int64_t group, uint2 own) {
    call.Receive(group, own, [&](int rank, uint2 bits) {
      StoreGroup(bits, out + rank * elements, group, elements);
    });
  });
}

template <typename T>
int Blocks(int64_t elements) {
  const int64_t blocks = (GroupsIn<T>(elements) + kThreads - 1) / kThreads;
  return static_cast<int>(std::min<int64_t>(blocks, kOneShotMostBlocks));
}

template <typename T>
cudaError_t LaunchSum(const OneShotRanks& ranks, void* x, int64_t elements, cudaStream_t stream) {
  return LaunchDependent(SumKernel<T>, Blocks<T>(elements), kThreads, 0, stream, ranks,
                         static_cast<T*>(x), elements);
}

template <typename T>
cudaError_t LaunchGather(const OneShotRanks& ranks, const void* x, int64_t elements, void* out,
                         cudaStream_t stream) {
  return LaunchDependent(GatherKernel<T>, Blocks<T>(elements), kThreads, 0, stream, ranks,
                         static_cast<const T*>(x), elements, static_cast<T*>(out));
}

void CheckShape(const OneShotRanks& ranks, ElementType type, int64_t elements) {
  assert(ranks.ranks >= 1 && ranks.ranks <= kOneShotMostRanks);
  assert(ranks.rank >= 0 && ranks.rank < ranks.ranks);
  assert(elements * ElementBytes(type) <= kOneShotMostBytes);
}

}  // namespace

cudaError_t LaunchOneShotSum(const OneShotRanks& ranks, void* x, ElementType type, int64_t elements,
                             cudaStream_t stream) {
  CheckShape(ranks, type, elements);
  if (elements == 0) return cudaSuccess;
  return type == ElementType::kBFloat16 ? LaunchSum<__nv_bfloat16>(ranks, x, elements, stream)
                                        : LaunchSum<float>(ranks, x, elements, stream);
}

cudaError_t LaunchOneShotGather(const OneShotRanks& ranks, const void* x, ElementType type,
                                int64_t elements, void* out, cudaStream_t stream) {
  CheckShape(ranks, type, elements);
  if (elements == 0) return cudaSuccess;
  return type == ElementType::kBFloat16
             ? LaunchGather<__nv_bfloat16>(ranks, x, elements, out, stream)
             : LaunchGather<float>(ranks, x, elements, out, stream);
}

}  // namespace weir
