#ifndef WEIR_KERNELS_CUDA_PREFILL_SHARED_TILE_H_
#define WEIR_KERNELS_CUDA_PREFILL_SHARED_TILE_H_

#include <cuda_bf16.h>

#include <cstdint>

#include "kernels/cuda/common/ptx.h"

namespace weir {

// Rows (queries, keys or values) of one head in shared memory, as the copy engine lays them down
// and wgmma reads them. A panel is 64 dimensions, 128 bytes, of all rows; in it the 16-byte chunks
// of row r are exchanged by r mod 8 ("128-byte swizzle"), which spares bank conflicts whichever way
// the tile is read.
constexpr int kPanelDims = 64;

template <int kRows, int kHeadDim>
struct SharedTile {
  static constexpr int kPanels = kHeadDim / kPanelDims;
  static constexpr int kPanelBytes = kRows * kPanelDims * sizeof(__nv_bfloat16);
  static constexpr int kBytes = kPanels * kPanelBytes;

  alignas(1024) __nv_bfloat16 data[kPanels][kRows][kPanelDims];

  // Enqueues the copy of rows [row, row + kRows) of `head`; rows outside of the tensor become zero.
  // The map's boxes have kRows rows.
  __device__ void Load(const CUtensorMap* map, uint64_t* barrier, int row, int head) {
    for (int panel = 0; panel < kPanels; ++panel) {
      TensorLoad(map, data[panel], barrier, panel * kPanelDims, row, head);
    }
  }
};

// Where a product finds an operand (PTX, "matrix descriptor"): address, two strides and the
// swizzle, in units of 16 bytes.
constexpr uint64_t kSwizzle128 = uint64_t{1} << 62;
constexpr uint64_t DescriptorStrides(uint64_t leading_bytes, uint64_t stride_bytes) {
  return kSwizzle128 | (leading_bytes / 16) << 16 | (stride_bytes / 16) << 32;
}
__device__ inline uint64_t DescriptorAddress(const void* pointer) {
  return (SharedAddress(pointer) & 0x3ffff) / 16;
}

// Operand whose depth is the head's dimensions, from 16 * step on; rows from `row`, a multiple
// of 8.
template <int kRows, int kHeadDim>
__device__ uint64_t DimensionsDeep(const SharedTile<kRows, kHeadDim>& tile, int row, int step) {
  // Groups of 8 rows are 1024 bytes apart. The leading stride is not used here.
  constexpr int kStepsPerPanel = kPanelDims / 16;
  return (DescriptorStrides(16, 1024) | DescriptorAddress(tile.data[0][row])) +
         (step / kStepsPerPanel * tile.kPanelBytes + step % kStepsPerPanel * 32) / 16;
}

// Operand whose depth is the tile's rows, from 16 * step on, and whose width is all dimensions.
template <int kRows, int kHeadDim>
__device__ uint64_t RowsDeep(const SharedTile<kRows, kHeadDim>& tile, int step) {
  // Panels are the leading stride; groups of 8 rows are 1024 bytes apart.
  return (DescriptorStrides(tile.kPanelBytes, 1024) | DescriptorAddress(tile.data)) +
         step * 2048 / 16;
}

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_PREFILL_SHARED_TILE_H_
