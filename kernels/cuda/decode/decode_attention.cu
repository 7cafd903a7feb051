#include <algorithm>
#include <cassert>
#include <cstdint>

#include "kernels/cuda/common/device_attribute.h"
#include "kernels/cuda/decode/decode_attend.cuh"
#include "kernels/cuda/decode/decode_attention.h"
#include "kernels/cuda/decode/decode_finish.cuh"
#include "kernels/cuda/decode/decode_output.cuh"
#include "kernels/cuda/decode/decode_share.cuh"

namespace weir {
namespace {

template <int kHeadDim>
cudaError_t LaunchOutput(const DecodeAttention& attention, cudaStream_t stream) {
  // By a full cache: a session's result does not depend on how far it or others are.
  const bool one_warp = DecodeAttention::Splits(attention.slots) <= kOutputLoads;
  const auto kernel =
      one_warp ? DecodeOutputKernel<kHeadDim, 1> : DecodeOutputKernel<kHeadDim, kOutputWarps>;
  const int group = attention.query_heads / attention.kv_heads;
  const int blocks = one_warp ? (group + kOutputWarps - 1) / kOutputWarps : group;
  return LaunchDependent(kernel, dim3(blocks, attention.kv_heads, attention.sequences),
                         kOutputWarps * 32, 0, stream, attention);
}

}  // namespace

DecodeSequence PackDecode(const SequenceStep& sequence) {
  assert(sequence.rows <= 1);
  assert(sequence.rings.size() <= DecodeSequence::kMostRings);
  assert(sequence.segments.size() <= DecodeSequence::kMostSegments);
  DecodeSequence packed = {};
  packed.active = sequence.rows == 1;
  packed.cache_slot = sequence.cache_slot;
  packed.mean = sequence.cascade.head_reduction == HeadReduction::kMean;
  packed.segment_count = static_cast<int>(sequence.segments.size());
  for (const KeySegment& segment : sequence.segments) packed.cached += segment.slot_count;
  std::copy(sequence.segments.begin(), sequence.segments.end(), packed.segments);
  packed.ring_count = static_cast<int>(sequence.rings.size());
  packed.sinks = sequence.cascade.sinks;
  packed.ring_slots = sequence.cascade.ring_slots();
  packed.sink_slot = sequence.sink_rows == 1 ? sequence.first_sink_slot : -1;
  packed.token = sequence.first_token;
  packed.decay = sequence.cascade.beta;
  for (int level = 0; level < packed.ring_count; ++level) {
    const RingAdmission& ring = sequence.rings[level];
    const int first = packed.sinks + level * packed.ring_slots;
    const auto slot = [&](int entry) { return first + (ring.head + entry) % packed.ring_slots; };
    packed.rings[level] = {.oldest = ring.size > 0 ? slot(0) : -1,
                           .newest = ring.size > 0 ? slot(ring.size - 1) : -1,
                           .next = slot(ring.size),
                           .arrives = ring.arrivals == 1,
                           .accepts = ring.new_entries() == 1};
  }
  return packed;
}

cudaError_t LaunchDecodeAttention(const DecodeAttention& attention, cudaStream_t stream) {
  const int group = attention.query_heads / attention.kv_heads;
  assert(attention.head_dim == 64 || attention.head_dim == 128);
  assert(group <= DecodeAttention::kMostGroup);
  const int head_blocks = (group + kDecodeHeads - 1) / kDecodeHeads;
  const dim3 attend_grid(DecodeAttention::Splits(attention.slots), attention.kv_heads * head_blocks,
                         attention.sequences);
  int multiprocessors = 0;
  cudaError_t error = GetDeviceAttribute(cudaDevAttrMultiProcessorCount, multiprocessors);
  if (error != cudaSuccess) return error;
  const int64_t blocks = static_cast<int64_t>(attend_grid.x) * attend_grid.y * attend_grid.z;
  const int warps = blocks <= multiprocessors ? 2 * kDecodeParts : kDecodeParts;
  const auto attend = attention.head_dim == 64 ? DecodeAttendKernel<64> : DecodeAttendKernel<128>;
  error = LaunchDependent(attend, attend_grid, warps * 32, 0, stream, attention);
  if (error != cudaSuccess) return error;
  return attention.head_dim == 64 ? LaunchOutput<64>(attention, stream)
                                  : LaunchOutput<128>(attention, stream);
}

cudaError_t LaunchDecodeAdmission(const DecodeAttention& attention, cudaStream_t stream) {
  const dim3 grid(1 + (attention.slots + kFinishSlots - 1) / kFinishSlots, attention.kv_heads,
                  attention.sequences);
  DecodeFinishKernel<<<grid, kFinishThreads, 0, stream>>>(attention);
  return cudaGetLastError();
}

}  // namespace weir
