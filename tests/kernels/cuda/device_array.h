#ifndef WEIR_TESTS_KERNELS_CUDA_DEVICE_ARRAY_H_
#define WEIR_TESTS_KERNELS_CUDA_DEVICE_ARRAY_H_

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace weir {

// Ends the program on a CUDA error: in tests and benchmarks nothing can go on after one.
inline void CheckCuda(cudaError_t error) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "CUDA: %s\n", cudaGetErrorString(error));
  std::abort();
}

// How many GPUs there are. Ones that cannot be used end the program.
inline int Gpus() {
  int gpus = 0;
  const cudaError_t error = cudaGetDeviceCount(&gpus);
  if (error == cudaErrorNoDevice || error == cudaErrorInsufficientDriver) return 0;
  CheckCuda(error);
  return gpus;
}

// Whether there is a GPU with at least this compute capability (90 for 9.0).
inline bool HasGpu(int capability) {
  if (Gpus() == 0) return false;
  cudaDeviceProp properties;
  CheckCuda(cudaGetDeviceProperties(&properties, 0));
  return properties.major * 10 + properties.minor >= capability;
}

// Whether the first `gpus` GPUs reach one another's memory.
inline bool ReachOneAnother(int gpus) {
  for (int from = 0; from < gpus; ++from) {
    for (int to = 0; to < gpus; ++to) {
      int can = 1;
      if (from != to) CheckCuda(cudaDeviceCanAccessPeer(&can, from, to));
      if (can == 0) return false;
    }
  }
  return true;
}

// An array in device memory.
template <typename T>
class DeviceArray {
 public:
  explicit DeviceArray(size_t size) : size_(size) { CheckCuda(cudaMalloc(&data_, bytes() + 1)); }
  explicit DeviceArray(const std::vector<T>& host) : DeviceArray(host.size()) {
    CheckCuda(cudaMemcpy(data_, host.data(), bytes(), cudaMemcpyHostToDevice));
  }
  ~DeviceArray() { cudaFree(data_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  T* data() const { return data_; }
  size_t size() const { return size_; }
  size_t bytes() const { return size_ * sizeof(T); }
  void FillBytes(int value) { CheckCuda(cudaMemset(data_, value, bytes())); }
  std::vector<T> Read() const {
    std::vector<T> host(size_);
    CheckCuda(cudaDeviceSynchronize());
    CheckCuda(cudaMemcpy(host.data(), data_, bytes(), cudaMemcpyDeviceToHost));
    return host;
  }

 private:
  T* data_ = nullptr;
  size_t size_;
};

}  // namespace weir

#endif  // WEIR_TESTS_KERNELS_CUDA_DEVICE_ARRAY_H_
