#ifndef WEIR_KERNELS_CUDA_PREFILL_PREFILL_SHARED_SM90_CUH_
#define WEIR_KERNELS_CUDA_PREFILL_PREFILL_SHARED_SM90_CUH_

// What the warps of a block of the prefill kernel share: the operands in device memory, and the
// shared memory in which they hand tiles to one another.

#include <cuda.h>
#include <cuda_bf16.h>

#include <cstdint>

#include "kernels/cuda/prefill/column_sums.h"
#include "kernels/cuda/prefill/prefill_schedule.h"
#include "kernels/cuda/prefill/shared_tile.h"

namespace weir {

constexpr int kConsumerGroups = kItemRowBlocks;
constexpr int kConsumerWarps = kConsumerGroups * 4;
constexpr int kPrefillThreads = (kConsumerGroups + 1) * 128;

struct PrefillMaps {
  CUtensorMap queries, cached_keys, cached_values, own_keys, own_values;
};

struct PrefillArguments {
  int rows;
  int cached;
  int group;  // query heads of a KV head
  float log2_beta;
  float log2_scale;
  const float* cached_key_norms;
  const float* own_key_norms;
  __nv_bfloat16* out;
  int64_t out_stride;
  float* log2_normalizers;
  unsigned long long* column_sums;
  const PrefillItem* items;
  const int* first_item;
};

template <int kHeadDim>
struct PrefillShared {
  static constexpr int kStages = kHeadDim == 128 ? 2 : 4;
  static constexpr int kSumStages = 4;

  SharedTile<kBlockRows, kHeadDim> queries[kConsumerGroups];
  SharedTile<kKeyTile, kHeadDim> keys[kStages];
  SharedTile<kKeyTile, kHeadDim> values[kStages];
  float key_norms[kStages];
  float2 row_weights[kConsumerGroups][128];  // of the two rows of every consumer thread
  ColumnQuad sums[kSumStages][kConsumerWarps][32];
  uint64_t queries_full, queries_empty;
  uint64_t keys_full[kStages], keys_empty[kStages];
  uint64_t values_full[kStages], values_empty[kStages];
  uint64_t sums_full[kSumStages], sums_empty[kSumStages];
};

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_PREFILL_PREFILL_SHARED_SM90_CUH_
