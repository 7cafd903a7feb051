#include <cassert>
#include <cmath>

#include "kernels/cuda/prefill/chunk_attention_sm90.h"
#include "kernels/cuda/prefill/column_sums_kernel_sm90.cuh"
#include "kernels/cuda/prefill/prefill_kernel_sm90.cuh"
#include "kernels/cuda/prefill/prefill_shared_sm90.cuh"
#include "kernels/cuda/prefill/tensor_map.h"

namespace weir {
namespace {

float Log2Scale(int head_dim) {
  return static_cast<float>(M_LOG2E / std::sqrt(static_cast<double>(head_dim)));
}

cudaError_t MakeMaps(const ChunkAttention& attention, PrefillMaps* maps) {
  const int kv_heads = attention.kv_heads;
  const auto make = [&](const ChunkAttention::View& view, int rows, CUtensorMap* map) {
    return MakeTensorMap(view, rows, kv_heads, attention.head_dim, kKeyTile, map);
  };
  cudaError_t error = MakeTensorMap(attention.queries, attention.rows, attention.query_heads,
                                    attention.head_dim, kBlockRows, &maps->queries);
  if (error == cudaSuccess) {
    error = make(attention.own_keys, attention.rows, &maps->own_keys);
  }
  if (error == cudaSuccess) {
    error = make(attention.own_values, attention.rows, &maps->own_values);
  }
  // Without cached keys these maps are not used, and no map is empty.
  if (attention.cached == 0) {
    maps->cached_keys = maps->own_keys;
    maps->cached_values = maps->own_values;
    return error;
  }
  if (error == cudaSuccess) {
    error = make(attention.cached_keys, attention.cached, &maps->cached_keys);
  }
  if (error == cudaSuccess) {
    error = make(attention.cached_values, attention.cached, &maps->cached_values);
  }
  return error;
}

// A decay of 0 makes the logarithm -infinity, and 0 times infinity is no number.
float Log2Beta(const ChunkAttention& attention) { return std::fmax(attention.log2_beta, -1e30f); }

template <int kHeadDim, bool kColumnSums>
cudaError_t LaunchPrefill(const ChunkAttention& attention, const DeviceSchedule& schedule,
                          const PrefillMaps& maps, cudaStream_t stream) {
  const auto kernel = PrefillKernel<kHeadDim, kColumnSums>;
  constexpr int kBytes = sizeof(PrefillShared<kHeadDim>);
  const cudaError_t error =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
  if (error != cudaSuccess) return error;
  const PrefillArguments arguments = {
      .rows = attention.rows,
      .cached = attention.cached,
      .group = attention.query_heads / attention.kv_heads,
      .log2_beta = Log2Beta(attention),
      .log2_scale = Log2Scale(kHeadDim),
      .cached_key_norms = attention.cached_key_norms,
      .own_key_norms = attention.own_key_norms,
      .out = attention.out,
      .out_stride = attention.out_stride,
      .log2_normalizers = attention.log2_normalizers,
      .column_sums = attention.column_sums,
      .items = schedule.items,
      .first_item = schedule.first_item,
  };
  kernel<<<schedule.blocks, kPrefillThreads, kBytes, stream>>>(maps, arguments);
  return cudaGetLastError();
}

template <int kHeadDim>
cudaError_t LaunchColumnSums(const ChunkAttention& attention, const PrefillMaps& prefill_maps,
                             cudaStream_t stream) {
  static_assert(kColumnTile == kKeyTile);
  ColumnMaps maps;
  maps.cached_keys = prefill_maps.cached_keys;
  maps.own_keys = prefill_maps.own_keys;
  cudaError_t error = MakeTensorMap(attention.queries, attention.rows, attention.query_heads,
                                    kHeadDim, kColumnTile, &maps.queries);
  if (error != cudaSuccess) return error;
  const auto kernel = ColumnSumsKernel<kHeadDim>;
  constexpr int kBytes = sizeof(ColumnShared<kHeadDim>);
  error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
  if (error != cudaSuccess) return error;
  const ColumnArguments arguments = {
      .rows = attention.rows,
      .cached = attention.cached,
      .group = attention.query_heads / attention.kv_heads,
      .log2_beta = Log2Beta(attention),
      .log2_scale = Log2Scale(kHeadDim),
      .log2_normalizers = attention.log2_normalizers,
      .column_sums = attention.column_sums,
  };
  const auto tiles = [](int keys) { return (keys + kColumnTile - 1) / kColumnTile; };
  const dim3 grid(tiles(attention.cached) + tiles(attention.rows), attention.kv_heads);
  kernel<<<grid, kColumnThreads, kBytes, stream>>>(maps, arguments);
  return cudaGetLastError();
}

template <int kHeadDim>
cudaError_t Launch(const ChunkAttention& attention, const DeviceSchedule& schedule,
                   ColumnSumMode mode, cudaStream_t stream) {
  PrefillMaps maps;
  cudaError_t error = MakeMaps(attention, &maps);
  if (error != cudaSuccess) return error;
  if (mode == ColumnSumMode::kFast) {
    return LaunchPrefill<kHeadDim, true>(attention, schedule, maps, stream);
  }
  error = LaunchPrefill<kHeadDim, false>(attention, schedule, maps, stream);
  if (error != cudaSuccess || mode == ColumnSumMode::kNone) return error;
  return LaunchColumnSums<kHeadDim>(attention, maps, stream);
}

}  // namespace

cudaError_t LaunchHopperChunkAttention(const ChunkAttention& attention,
                                       const DeviceSchedule& schedule, ColumnSumMode mode,
                                       cudaStream_t stream) {
  assert(attention.head_dim == 64 || attention.head_dim == 128);
  return attention.head_dim == 64 ? Launch<64>(attention, schedule, mode, stream)
                                  : Launch<128>(attention, schedule, mode, stream);
}

}  // namespace weir
