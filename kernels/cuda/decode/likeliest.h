#ifndef WEIR_KERNELS_CUDA_DECODE_LIKELIEST_H_
#define WEIR_KERNELS_CUDA_DECODE_LIKELIEST_H_

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "kernels/likeliest.h"

namespace weir {

// Columns of a matrix of logits, at most.
inline constexpr int64_t kMostLogitColumns = 262144;

// Logits of a part of the vocabulary, in device memory.
struct DeviceLogits {
  const float* values;  // [rows][width]
  int rows;
  int64_t width;        // at most kMostLogitColumns
  int32_t first_token;  // of column 0
  int32_t tokens;       // columns that are tokens, 0 to width; the others are padding
};

// Bytes of device memory that LaunchLikeliest works in; aligned to 8.
size_t LikeliestWorkspaceBytes(int rows, int64_t width);

// Reduces every row as requests[row] says (device memory, [rows]) and writes the summary tensor of
// all rows (see likeliest.h), with room for as many likeliest tokens as any row asks for. A row's
// summary depends on its logits and request alone, bit for bit. Two dependent launches whose shape
// depends on `logits` alone; nothing is allocated, so they can be captured in a graph.
//
// Reads faster where `values` is aligned to 16 bytes and width and first_token are multiples of 4.
cudaError_t LaunchLikeliest(const DeviceLogits& logits, const LikeliestRequest* requests,
                            float* summaries, void* workspace, cudaStream_t stream);

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_DECODE_LIKELIEST_H_
