// Times the reduction of logits, of which tokens are chosen. One JSON object a line.
//
//   likeliest_bench ROWS:TOKENS ...

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <random>
#include <vector>

#include "kernels/cuda/decode/likeliest.h"
#include "tests/kernels/cuda/captured_graph.h"
#include "tests/kernels/cuda/device_array.h"

namespace weir {
namespace {

constexpr int kRuns = 21;
constexpr int kLaunches = 20;  // of a run, in a graph

// Microseconds of what `launch` launches.
template <typename Launch>
double Microseconds(cudaStream_t stream, const Launch& launch) {
  const CapturedGraph graph(stream, [&] {
    for (int i = 0; i < kLaunches; ++i) launch();
  });
  cudaEvent_t begin, end;
  CheckCuda(cudaEventCreate(&begin));
  CheckCuda(cudaEventCreate(&end));
  std::vector<float> times;
  for (int i = 0; i < kRuns; ++i) {
    CheckCuda(cudaEventRecord(begin, stream));
    graph.Launch(stream);
    CheckCuda(cudaEventRecord(end, stream));
    CheckCuda(cudaEventSynchronize(end));
    float ms;
    CheckCuda(cudaEventElapsedTime(&ms, begin, end));
    times.push_back(ms * 1000 / kLaunches);
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

void Bench(int rows, int tokens) {
  std::mt19937 random(5);
  std::normal_distribution<float> normal(0, 3);
  std::vector<float> host(static_cast<int64_t>(rows) * tokens);
  for (float& logit : host) logit = normal(random);
  const DeviceArray<float> values(host);
  // All likely tokens are neighbours, as where a vocabulary is sorted.
  std::vector<float> sorted = host;
  for (int row = 0; row < rows; ++row) {
    const auto begin = sorted.begin() + static_cast<int64_t>(row) * tokens;
    std::sort(begin, begin + tokens);
  }
  const DeviceArray<float> sorted_values(sorted);
  DeviceArray<float> summaries(SummaryLines(kMostLikeliest) * 2 * rows);
  DeviceArray<char> workspace(LikeliestWorkspaceBytes(rows, tokens));
  cudaStream_t stream;
  CheckCuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));

  const auto bench = [&](const char* what, const float* logits, const LikeliestRequest& request) {
    const DeviceArray<LikeliestRequest> requests(std::vector<LikeliestRequest>(rows, request));
    const double us = Microseconds(stream, [&] {
      CheckCuda(LaunchLikeliest({logits, rows, tokens, 0, tokens}, requests.data(),
                                summaries.data(), workspace.data(), stream));
    });
    std::printf("{\"kernel\": \"%s\", \"rows\": %d, \"tokens\": %d, \"us\": %.1f}\n", what, rows,
                tokens, us);
  };
  bench("likeliest: 1", values.data(), {});
  bench("likeliest: draw", values.data(), {.inverse_temperature = 1.25f, .draw = true});
  bench("likeliest: 20", values.data(), {.likeliest = 20});
  bench("likeliest: 1024", values.data(), {.likeliest = kMostLikeliest});
  bench("likeliest: 1024, sorted", sorted_values.data(), {.likeliest = kMostLikeliest});
  bench("likeliest: a target", values.data(), {.target = 7});
  CheckCuda(cudaStreamDestroy(stream));
}

int Main(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    int rows, tokens;
    if (std::sscanf(argv[i], "%d:%d", &rows, &tokens) != 2) {
      std::fprintf(stderr, "What is %s? Give ROWS:TOKENS.\n", argv[i]);
      return 2;
    }
    Bench(rows, tokens);
  }
  return 0;
}

}  // namespace
}  // namespace weir

int main(int argc, char** argv) { return weir::Main(argc, argv); }
