#ifndef WEIR_KERNELS_CUDA_DECODE_MMA_CUH_
#define WEIR_KERNELS_CUDA_DECODE_MMA_CUH_

// The tensor cores as a warp of any card since compute capability 8.0 uses them.
//
// Layouts, for lane 4 * line + column of a warp (line 0 .. 7, column 0 .. 3):
//   A [16][16]  a[0]: row line, columns 2 * column and the next; a[1]: row line + 8; a[2], a[3]:
//   the
//               same rows, columns 8 further
//   B [16][8]   b[0]: rows 2 * column and the next, column line; b[1]: rows 8 further
//   D [16][8]   d[0], d[1]: row line, columns 2 * column and the next; d[2], d[3]: row line + 8
// The depth may be permuted at will, if A and B are permuted alike.

#include <cstdint>

namespace weir {

// d += A * B, bfloat16 operands.
__device__ inline void MultiplyAdd16x8x16(float (&d)[4], uint32_t a0, uint32_t a1, uint32_t a2,
                                          uint32_t a3, uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

// The transpose of an 8 x 8 matrix of 16-bit elements; a lane holds two of a row, as in D.
__device__ inline uint32_t Transpose8x8(uint32_t pair) {
  uint32_t result;
  asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(result) : "r"(pair));
  return result;
}

// The low, or the high, halves of two pairs: a's in the low half.
__device__ inline uint32_t LowHalves(uint32_t a, uint32_t b) { return __byte_perm(a, b, 0x5410); }
__device__ inline uint32_t HighHalves(uint32_t a, uint32_t b) { return __byte_perm(a, b, 0x7632); }

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_DECODE_MMA_CUH_
