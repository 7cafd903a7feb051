// Times the product of few rows beside cuBLAS and beside a copy within the card's memory. Launches
// follow one another in a graph, on copies of the weights that together exceed the second cache.
// One JSON object a line.
//
//   few_rows_matmul_bench [OUTPUTS:COLS ...]    by default the shapes of Llama 3.1 8B and of
//   SmolLM2

#include <cublas_v2.h>
#include <cuda_bf16.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "kernels/cuda/decode/few_rows_matmul.h"
#include "tests/kernels/cuda/captured_graph.h"
#include "tests/kernels/cuda/device_array.h"

namespace weir {
namespace {

constexpr int kReplays = 15;
constexpr int kLeastLaunches = 24;
constexpr int64_t kLeastBytes = int64_t{400} << 20;  // of weights, before any is read again

void CheckCublas(cublasStatus_t status) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  std::fprintf(stderr, "cuBLAS: %s\n", cublasGetStatusString(status));
  std::abort();
}

class Bench {
 public:
  Bench() : workspace_(size_t{32} << 20), random_(size_t{1} << 22) {
    std::mt19937 random(15);
    std::normal_distribution<float> normal;
    for (__nv_bfloat16& value : random_) value = __float2bfloat16(normal(random));
    CheckCuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
    CheckCuda(cudaEventCreate(&begin_));
    CheckCuda(cudaEventCreate(&end_));
    CheckCublas(cublasCreate(&cublas_));
    CheckCublas(cublasSetStream(cublas_, stream_));
    CheckCublas(cublasSetWorkspace(cublas_, workspace_.data(), workspace_.bytes()));
  }
  ~Bench() {
    cublasDestroy(cublas_);
    cudaEventDestroy(end_);
    cudaEventDestroy(begin_);
    cudaStreamDestroy(stream_);
  }
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;

  void Copy() {
    constexpr size_t kBytes = size_t{1} << 30;
    DeviceArray<char> from(kBytes), to(kBytes);
    from.FillBytes(1);
    const double us = Time(4, [&](int) {
      CheckCuda(cudaMemcpyAsync(to.data(), from.data(), kBytes, cudaMemcpyDeviceToDevice, stream_));
    });
    std::printf("{\"operation\": \"copy\", \"bytes\": %zu, \"us\": %.2f, \"gb_per_s\": %.0f}\n",
                kBytes, us, 2.0 * kBytes / us * 1e-3);
  }

  void Shape(int outputs, int cols) {
    const int64_t size = int64_t{outputs} * cols;
    const int copies = static_cast<int>(kLeastBytes / (2 * size)) + 2;
    const int launches = (kLeastLaunches + copies - 1) / copies * copies;
    const DeviceArray<__nv_bfloat16> weights(size * copies);
    Fill(weights);
    for (const int rows : {1, 8, 16, 32, 64}) {
      const DeviceArray<__nv_bfloat16> x(int64_t{rows} * cols);
      Fill(x);
      DeviceArray<__nv_bfloat16> out(int64_t{rows} * outputs);
      const auto weights_of = [&](int launch) { return weights.data() + launch % copies * size; };
      Report("weir", rows, outputs, cols, Time(launches, [&](int launch) {
               CheckCuda(LaunchFewRowsMatMul({x.data(), cols, weights_of(launch), rows, outputs,
                                              cols, out.data(), outputs, false},
                                             stream_));
             }));
      // Column by column, so the operands change places.
      const float one = 1.0f, zero = 0.0f;
      Report("cublas", rows, outputs, cols, Time(launches, [&](int launch) {
               CheckCublas(cublasGemmEx(cublas_, CUBLAS_OP_T, CUBLAS_OP_N, outputs, rows, cols,
                                        &one, weights_of(launch), CUDA_R_16BF, cols, x.data(),
                                        CUDA_R_16BF, cols, &zero, out.data(), CUDA_R_16BF, outputs,
                                        CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT));
             }));
    }
  }

 private:
  // Random bits cost power that equal ones do not.
  void Fill(const DeviceArray<__nv_bfloat16>& array) {
    for (size_t i = 0; i < array.size(); i += random_.size()) {
      CheckCuda(cudaMemcpy(array.data() + i, random_.data(),
                           std::min(random_.size(), array.size() - i) * sizeof(__nv_bfloat16),
                           cudaMemcpyHostToDevice));
    }
    CheckCuda(cudaDeviceSynchronize());
  }

  // Microseconds of one launch among `launches` in a graph: the median of kReplays.
  template <typename Launch>
  double Time(int launches, Launch launch) {
    launch(0);  // whatever is loaded or chosen once
    CheckCuda(cudaStreamSynchronize(stream_));
    const CapturedGraph graph(stream_, [&] {
      for (int i = 0; i < launches; ++i) launch(i);
    });
    std::vector<float> times(kReplays);
    for (int i = -2; i < kReplays; ++i) {  // two to warm up
      CheckCuda(cudaEventRecord(begin_, stream_));
      graph.Launch(stream_);
      CheckCuda(cudaEventRecord(end_, stream_));
      CheckCuda(cudaEventSynchronize(end_));
      float ms;
      CheckCuda(cudaEventElapsedTime(&ms, begin_, end_));
      if (i >= 0) times[i] = ms;
    }
    std::sort(times.begin(), times.end());
    return times[kReplays / 2] * 1e3 / launches;
  }

  static void Report(const char* library, int rows, int outputs, int cols, double us) {
    std::printf(
        "{\"operation\": \"few_rows_matmul\", \"library\": \"%s\", \"rows\": %d, \"outputs\": %d, "
        "\"cols\": %d, \"us\": %.2f, \"weights_gb_per_s\": %.0f}\n",
        library, rows, outputs, cols, us, 2.0 * outputs * cols / us * 1e-3);
    std::fflush(stdout);
  }

  cudaStream_t stream_;
  cudaEvent_t begin_, end_;
  cublasHandle_t cublas_;
  DeviceArray<char> workspace_;
  std::vector<__nv_bfloat16> random_;
};

int Main(int argc, char** argv) {
  Bench bench;
  bench.Copy();
  for (int i = 1; i < argc; ++i) {
    int outputs, cols;
    if (std::sscanf(argv[i], "%d:%d", &outputs, &cols) != 2) {
      std::fprintf(stderr, "What is %s? Give OUTPUTS:COLS.\n", argv[i]);
      return 2;
    }
    bench.Shape(outputs, cols);
  }
  if (argc > 1) return 0;
  bench.Shape(6144,
              4096);  // Llama 3.1 8B: queries, keys and values; attention's output; gate and up;
  bench.Shape(4096, 4096);  // down; logits
  bench.Shape(28672, 4096);
  bench.Shape(4096, 14336);
  bench.Shape(128256, 4096);
  // The same on each of two cards.
  bench.Shape(3072, 4096);
  bench.Shape(4096, 2048);
  bench.Shape(14336, 4096);
  bench.Shape(4096, 7168);
  bench.Shape(64128, 4096);
  // SmolLM2 135M.
  bench.Shape(960, 576);
  bench.Shape(576, 576);
  bench.Shape(3072, 576);
  bench.Shape(576, 1536);
  bench.Shape(49152, 576);
  return 0;
}

}  // namespace
}  // namespace weir

int main(int argc, char** argv) { return weir::Main(argc, argv); }
