// Times the sum of a decode step's and a chunk's rows over all GPUs of this host, in a CUDA graph
// as a recorded step has it, and the same through NCCL alone. One JSON object a line.
//
//   all_reduce_bench [GPUS]

#include <cuda_runtime.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
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

void Check(const absl::Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "%s\n", status.ToString().c_str());
  std::exit(1);
}

// Microseconds of one sum of `rows` rows of bfloat16, as rank 0 sees it.
double Time(int gpus, int rows, bool one_shot) {
  InMemoryRendezvous rendezvous;
  double microseconds = 0;
  RunRanks(gpus, [&](int rank) {
    CheckCuda(cudaSetDevice(rank));
    cudaStream_t stream;
    CheckCuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    DeviceArray<uint16_t> x(static_cast<size_t>(rows) * kWidth);
    x.FillBytes(0);
    CheckCuda(cudaDeviceSynchronize());
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

    CheckCuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    for (int i = 0; i < kSums; ++i) {
      Check((*communicator)->AllReduceSum({x.data(), ElementType::kBFloat16, rows, kWidth}));
    }
    cudaGraph_t graph;
    CheckCuda(cudaStreamEndCapture(stream, &graph));
    cudaGraphExec_t executable;
    CheckCuda(cudaGraphInstantiate(&executable, graph, 0));
    CheckCuda(cudaGraphDestroy(graph));

    cudaEvent_t begin, end;
    CheckCuda(cudaEventCreate(&begin));
    CheckCuda(cudaEventCreate(&end));
    for (int i = 0; i < kWarmUp; ++i) CheckCuda(cudaGraphLaunch(executable, stream));
    CheckCuda(cudaEventRecord(begin, stream));
    for (int i = 0; i < kReplays; ++i) CheckCuda(cudaGraphLaunch(executable, stream));
    CheckCuda(cudaEventRecord(end, stream));
    CheckCuda(cudaEventSynchronize(end));
    float ms;
    CheckCuda(cudaEventElapsedTime(&ms, begin, end));
    if (rank == 0) microseconds = 1e3 * ms / (kSums * kReplays);
    // Nobody leaves while another still sums.
    std::string bytes;
    Check((*communicator)->Gather(bytes).status());
    Check((*communicator)->Broadcast(bytes));
    CheckCuda(cudaGraphExecDestroy(executable));
    communicator->reset();
    CheckCuda(cudaStreamDestroy(stream));
  });
  return microseconds;
}

int Main(int argc, char** argv) {
  int gpus = 0;
  CheckCuda(cudaGetDeviceCount(&gpus));
  if (argc > 1) gpus = std::atoi(argv[1]);
  for (const int rows : {1, 8, 16, 32, 64, 4096}) {
    const double microseconds = Time(gpus, rows, /*one_shot=*/true);
    const double nccl = Time(gpus, rows, /*one_shot=*/false);
    std::printf(
        "{\"collective\": \"all_reduce\", \"gpus\": %d, \"rows\": %d, \"bytes\": %lld, \"us\": "
        "%.2f, "
        "\"nccl_us\": %.2f}\n",
        gpus, rows, 2LL * rows * kWidth, microseconds, nccl);
    std::fflush(stdout);
  }
  return 0;
}

}  // namespace
}  // namespace weir

int main(int argc, char** argv) { return weir::Main(argc, argv); }
