#include "kernels/cuda/chunk_pass.h"

#include <algorithm>
#include <cmath>

#include "kernels/cuda/common/bfloat16_tensor.h"
#include "kernels/cuda/prefill/chunk_attention.h"
#include "kernels/cuda/prefill/chunk_attention_sm90.h"
#include "kernels/cuda/prefill/chunk_preparation.h"

namespace weir {
namespace {

const __nv_bfloat16* Keys(const ChunkPass& pass) {
  const KvShape& shape = pass.kv.shape();
  return BFloat16s(pass.qkv) + int64_t{shape.query_heads} * shape.head_dim;
}

const __nv_bfloat16* Values(const ChunkPass& pass) {
  const KvShape& shape = pass.kv.shape();
  return Keys(pass) + int64_t{shape.kv_heads} * shape.head_dim;
}

CachedKeys DescribeCachedKeys(const ChunkPass& pass, const LayerSlots& slots) {
  const SequenceStep& sequence = *pass.step.chunk();
  CachedKeys keys = {};
  for (const KeySegment& segment : sequence.segments) keys.cached += segment.slot_count;
  keys.kv_heads = slots.kv_heads;
  keys.head_dim = slots.head_dim;
  keys.keys = slots.keys;
  keys.head_stride = int64_t{slots.slots} * slots.head_dim;
  keys.rotated = pass.kv.chunk_scratch().rotated_keys;
  keys.key_norms = pass.kv.chunk_scratch().cached_key_norms;
  keys.segment_count = static_cast<int>(sequence.segments.size());
  std::copy(sequence.segments.begin(), sequence.segments.end(), keys.segments);
  return keys;
}

ChunkAttention DescribeAttention(const ChunkPass& pass, const LayerSlots& slots, int cached,
                                 Tensor out) {
  const KvShape& shape = pass.kv.shape();
  const CudaKvStorage::ChunkScratch& scratch = pass.kv.chunk_scratch();
  const SequenceStep& sequence = *pass.step.chunk();
  const int64_t dim = shape.head_dim;
  const int64_t rotated_stride = (shape.query_heads + shape.kv_heads) * dim;
  return {
      .query_heads = shape.query_heads,
      .kv_heads = shape.kv_heads,
      .head_dim = shape.head_dim,
      .rows = sequence.rows,
      .cached = cached,
      .log2_beta = static_cast<float>(std::log2(sequence.cascade.beta)),
      .queries = {scratch.rotated_rows, rotated_stride, dim},
      .cached_keys = {scratch.rotated_keys, dim, cached * dim},
      .cached_values = {slots.values, dim, slots.slots * dim},
      .own_keys = {scratch.rotated_rows + shape.query_heads * dim, rotated_stride, dim},
      .own_values = {Values(pass), pass.qkv.cols, dim},
      .cached_key_norms = scratch.cached_key_norms,
      .own_key_norms = scratch.own_key_norms,
      .out = BFloat16s(out),
      .out_stride = out.cols,
      .log2_normalizers = scratch.log2_normalizers,
      .column_sums = scratch.column_sums,
  };
}

}  // namespace

cudaError_t EnqueueChunkAttention(const ChunkPass& pass, Tensor out, cudaStream_t stream) {
  const KvShape& shape = pass.kv.shape();
  const CudaKvStorage::ChunkScratch& scratch = pass.kv.chunk_scratch();
  const SequenceStep& sequence = *pass.step.chunk();
  const LayerSlots slots = pass.kv.layer_slots(sequence.cache_slot, pass.layer);
  const DeviceRope rope = pass.kv.rope();
  const ChunkRows rows = {.rows = sequence.rows,
                          .query_heads = shape.query_heads,
                          .kv_heads = shape.kv_heads,
                          .head_dim = shape.head_dim,
                          .qkv = BFloat16s(pass.qkv),
                          .qkv_stride = pass.qkv.cols,
                          .rotated = scratch.rotated_rows,
                          .key_norms = scratch.own_key_norms};
  cudaError_t error = LaunchRotateRows(rows, rope, stream);
  if (error != cudaSuccess) return error;
  const CachedKeys keys = DescribeCachedKeys(pass, slots);
  error = LaunchRotateCachedKeys(keys, rope, stream);
  if (error != cudaSuccess) return error;
  const int64_t sums = shape.query_heads * int64_t{keys.cached + sequence.rows};
  error = cudaMemsetAsync(scratch.column_sums, 0, sums * sizeof(*scratch.column_sums), stream);
  if (error != cudaSuccess) return error;

  const ChunkAttention attention = DescribeAttention(pass, slots, keys.cached, out);
  if (pass.hopper) {
    error = LaunchHopperChunkAttention(
        attention, pass.step.chunk_schedule(),
        pass.scores == ScoreMode::kFast ? ColumnSumMode::kFast : ColumnSumMode::kExact, stream);
  } else {
    error = LaunchPortableChunkAttention(attention, stream);
  }
  if (error != cudaSuccess) return error;
  return LaunchScoreUpdate({.rows = sequence.rows,
                            .cached = keys.cached,
                            .query_heads = shape.query_heads,
                            .kv_heads = shape.kv_heads,
                            .head_reduction = sequence.cascade.head_reduction,
                            .decay = std::pow(sequence.cascade.beta, sequence.rows),
                            .column_sums = scratch.column_sums,
                            .scores = slots.scores,
                            .slots = slots.slots,
                            .row_scores = pass.row_scores.f32(),
                            .row_score_stride = pass.row_scores.cols},
                           stream);
}

cudaError_t EnqueueChunkAdmission(const ChunkPass& pass, cudaStream_t stream) {
  const CudaKvStorage::ChunkScratch& scratch = pass.kv.chunk_scratch();
  return LaunchAdmission(
      pass.step.chunk_admission(), pass.kv.layer_slots(pass.step.chunk()->cache_slot, pass.layer),
      {Keys(pass), Values(pass), pass.qkv.cols, pass.row_scores.f32(), pass.row_scores.cols},
      pass.kv.rope(),
      {pass.step.chunk_runs(), scratch.sources, scratch.arrivals, pass.kv.device_swaps()}, stream);
}

}  // namespace weir
