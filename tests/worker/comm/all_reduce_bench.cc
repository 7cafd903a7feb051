// Times the sum of a decode step's and a chunk's rows over all GPUs of this host, in a CUDA graph
// as a recorded step has it, and the same through NCCL alone; then the same together with what
// follows in a layer, residual and norm. There, ranks that share rows have the parts of the sum
// where they are added up: products write them there, in time that is not counted. One JSON object
// a line.
//
//   all_reduce_bench [GPUS [ROWS ...]]

#include <cuda_runtime.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/cuda/elementwise.h"
#include "tests/kernels/cuda/captured_graph.h"
#include "tests/kernels/cuda/device_array.h"
#include "tests/worker/comm/rank_threads.h"
#include "worker/comm/in_memory_rendezvous.h"
#include "worker/comm/nccl_communicator.h"

namespace weir {
namespace {

constexpr int kWidth = 4096;
// In one graph: as many as a model of 32 layers has in a step.
constexpr int kSums = 64;
constexpr int kWarmUp = 5;
constexpr int kReplays = 50;
constexpr float kEpsilon = 1e-5f;

void Check(const absl::Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "%s\n", status.ToString().c_str());
  std::exit(1);
}

// What a graph has kSums of, on one rank.
class Work {
 public:
  Work(Communicator& communicator, int rows, bool with_norm, cudaStream_t stream)
      : communicator_(communicator),
        rows_(rows),
        with_norm_(with_norm),
        stream_(stream),
        x_(static_cast<size_t>(rows) * kWidth),
        normed_(x_.size()),
        residual_(x_.size()),
        weight_(kWidth) {
    x_.FillBytes(0);
    residual_.FillBytes(0);
    weight_.FillBytes(0);
    CheckCuda(cudaDeviceSynchronize());
    if (!with_norm) return;
    const auto shared = communicator.ShareRows(rows, kWidth);
    Check(shared.status());
    shares_rows_ = shared->has_value();
  }

  void Enqueue() {
    const Tensor residual = {residual_.data(), ElementType::kFloat32, rows_, kWidth};
    const Tensor weight = {weight_.data(), ElementType::kFloat32, 1, kWidth};
    const Tensor x = {x_.data(), ElementType::kBFloat16, rows_, kWidth};
    if (with_norm_ && communicator_.FusesNorm(rows_, kWidth)) {
      const Tensor normed = {normed_.data(), ElementType::kBFloat16, rows_, kWidth};
      return Check(communicator_.AllReduceAddRmsNorm(residual, x, weight, kEpsilon, normed));
    }
    if (shares_rows_) return Check(communicator_.SumAddRmsNorm(residual, weight, kEpsilon));
    Check(communicator_.AllReduceSum(x));
    if (!with_norm_) return;
    CheckCuda(LaunchRmsNorm(residual_.data(), x_.data(), weight_.data(), kEpsilon, rows_, kWidth,
                            normed_.data(), stream_));
  }

 private:
  Communicator& communicator_;
  const int rows_;
  const bool with_norm_;
  const cudaStream_t stream_;
  bool shares_rows_ = false;
  DeviceArray<__nv_bfloat16> x_, normed_;
  DeviceArray<float> residual_, weight_;
};

// Microseconds of one sum of `rows` rows of bfloat16, as rank 0 sees it; with_norm: and of residual
// and norm. one_shot: as a group does it, not through NCCL alone.
double Time(int gpus, int rows, bool with_norm, bool one_shot) {
  InMemoryRendezvous rendezvous;
  double microseconds = 0;
  RunRanks(gpus, [&](int rank) {
    CheckCuda(cudaSetDevice(rank));
    cudaStream_t stream;
    CheckCuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    NcclOptions options;
    options.group = {.rank = rank, .size = gpus};
    options.gpu = rank;
    options.stream = stream;
    options.one_shot = one_shot;
    options.log = [](const std::string& sentence) {
      std::fprintf(stderr, "%s\n", sentence.c_str());
    };
    absl::StatusOr<std::unique_ptr<Communicator>> communicator =
        ConnectNcclCommunicator(options, rendezvous);
    Check(communicator.status());

    Work work(**communicator, rows, with_norm, stream);
    auto graph = std::make_unique<CapturedGraph>(stream, [&] {
      for (int i = 0; i < kSums; ++i) work.Enqueue();
    });

    cudaEvent_t begin, end;
    CheckCuda(cudaEventCreate(&begin));
    CheckCuda(cudaEventCreate(&end));
    for (int i = 0; i < kWarmUp; ++i) graph->Launch(stream);
    CheckCuda(cudaEventRecord(begin, stream));
    for (int i = 0; i < kReplays; ++i) graph->Launch(stream);
    CheckCuda(cudaEventRecord(end, stream));
    CheckCuda(cudaEventSynchronize(end));
    float ms;
    CheckCuda(cudaEventElapsedTime(&ms, begin, end));
    if (rank == 0) microseconds = 1e3 * ms / (kSums * kReplays);
    // Nobody leaves while another still sums.
    std::string bytes;
    Check((*communicator)->Gather(bytes).status());
    Check((*communicator)->Broadcast(bytes));
    graph.reset();  // before the communicator that it names
    communicator->reset();
    CheckCuda(cudaStreamDestroy(stream));
  });
  return microseconds;
}

int Main(int argc, char** argv) {
  int gpus = Gpus();
  if (argc > 1) gpus = std::atoi(argv[1]);
  std::vector<int> sizes = {1, 8, 16, 32, 64, 4096};
  if (argc > 2) sizes.clear();
  for (int i = 2; i < argc; ++i) sizes.push_back(std::atoi(argv[i]));
  for (const bool with_norm : {false, true}) {
    for (const int rows : sizes) {
      const double microseconds = Time(gpus, rows, with_norm, /*one_shot=*/true);
      const double nccl = Time(gpus, rows, with_norm, /*one_shot=*/false);
      std::printf(
          "{\"collective\": \"%s\", \"gpus\": %d, \"rows\": %d, \"bytes\": %lld, \"us\": %.2f, "
          "\"nccl_us\": %.2f}\n",
          with_norm ? "all_reduce, add, norm" : "all_reduce", gpus, rows, 2LL * rows * kWidth,
          microseconds, nccl);
      std::fflush(stdout);
    }
  }
  return 0;
}

}  // namespace
}  // namespace weir

int main(int argc, char** argv) { return weir::Main(argc, argv); }
