#ifndef WEIR_KERNELS_CUDA_COMMON_PTX_H_
#define WEIR_KERNELS_CUDA_COMMON_PTX_H_

// Instructions that C++ has no words for, one function each. mbarriers, the tensor copy engine, a
// warpgroup's registers, and sums and products of pairs take Hopper; the rest runs on every card.

#include <cuda.h>

#include <cstdint>

namespace weir {

__device__ inline uint32_t SharedAddress(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

// ---- mbarrier: a counter of arrivals and bytes in shared memory. It is in phase 0 first; a phase
// ends when its arrivals and expected bytes are complete. ----

__device__ inline void BarrierInit(uint64_t* barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(SharedAddress(barrier)),
               "r"(arrivals));
}
// Makes initialised barriers visible to the copy engine.
__device__ inline void BarrierInitFence() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
__device__ inline void BarrierArrive(uint64_t* barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(SharedAddress(barrier)) : "memory");
}
// Arrives, and adds `bytes` to what the phase waits for.
__device__ inline void BarrierArriveExpect(uint64_t* barrier, uint32_t bytes) {
  asm volatile(
      "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(SharedAddress(barrier)),
      "r"(bytes)
      : "memory");
}
// Waits for the end of the phase of this parity: 0 for the first, third, ...
__device__ inline void BarrierWait(uint64_t* barrier, uint32_t parity) {
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "retry:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@done bra finished;\n"
      "bra retry;\n"
      "finished:\n"
      "}\n" ::"r"(SharedAddress(barrier)),
      "r"(parity)
      : "memory");
}

// Reads shared memory exactly here: neither earlier nor later.
__device__ inline float2 LoadHere(const float2* from) {
  float2 value;
  asm volatile("ld.volatile.shared.v2.f32 {%0, %1}, [%2];"
               : "=f"(value.x), "=f"(value.y)
               : "r"(SharedAddress(from))
               : "memory");
  return value;
}

// ---- Named barriers of the block, 1 .. 15; 0 is __syncthreads. A phase ends when `threads`
// threads, in whole warps, have come to it, waiting or not. ----

__device__ inline void NamedBarrierSync(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
__device__ inline void NamedBarrierArrive(int id, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// ---- Tensor copy engine (TMA) ----

// Copies the box of `map` at (x, y, z) to shared memory; its bytes count at `barrier`. Elements
// outside of the tensor arrive as zeros.
__device__ inline void TensorLoad(const CUtensorMap* map, void* to, uint64_t* barrier, int x, int y,
                                  int z) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes"
      " [%0], [%1, {%3, %4, %5}], [%2];" ::"r"(SharedAddress(to)),
      "l"(map), "r"(SharedAddress(barrier)), "r"(x), "r"(y), "r"(z)
      : "memory");
}
__device__ inline void TensorMapPrefetch(const CUtensorMap* map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

// ---- Registers of a warpgroup ----

template <int kRegisters>
__device__ inline void DecreaseRegisters() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ inline void IncreaseRegisters() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

// ---- Arithmetic ----

// 2^x; exact at 0 and -infinity, otherwise within 2 ulp.
__device__ inline float Exp2(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

// Two floats rounded to bfloat16, `low` in the low half.
__device__ inline uint32_t PackBFloat16(float low, float high) {
  uint32_t result;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(result) : "f"(high), "f"(low));
  return result;
}

// On pairs of bfloat16. A sum or product alone takes Hopper.
__device__ inline uint32_t AddPairs(uint32_t a, uint32_t b) {
  uint32_t result;
  asm("add.rn.bf16x2 %0, %1, %2;" : "=r"(result) : "r"(a), "r"(b));
  return result;
}
__device__ inline uint32_t MultiplyPairs(uint32_t a, uint32_t b) {
  uint32_t result;
  asm("mul.rn.bf16x2 %0, %1, %2;" : "=r"(result) : "r"(a), "r"(b));
  return result;
}
// a * b + c
__device__ inline uint32_t MultiplyAddPairs(uint32_t a, uint32_t b, uint32_t c) {
  uint32_t result;
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(result) : "r"(a), "r"(b), "r"(c));
  return result;
}
// The low and the high half, exactly.
__device__ inline float LowOfPair(uint32_t pair) { return __uint_as_float(pair << 16); }
__device__ inline float HighOfPair(uint32_t pair) { return __uint_as_float(pair & 0xffff0000); }

// Adds to a number in device memory, without waiting.
__device__ inline void AddToGlobal(unsigned long long* to, unsigned long long value) {
  asm volatile("red.relaxed.gpu.global.add.u64 [%0], %1;" ::"l"(to), "l"(value) : "memory");
}

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_COMMON_PTX_H_
