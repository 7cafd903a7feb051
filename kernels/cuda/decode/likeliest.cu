#include <cassert>

#include "kernels/cuda/common/dependent_launch.cuh"
#include "kernels/cuda/decode/likeliest.h"
#include "kernels/cuda/decode/likeliest_selection.cuh"
#include "kernels/cuda/decode/likeliest_slices.cuh"

namespace weir {
namespace {

constexpr int kSelectingThreads = 1024;

// A block of a row: the second of two kernels.
__global__ void __launch_bounds__(kSelectingThreads)
    SelectKernel(const DeviceLogits logits, const LogitSlices cut, bool aligned,
                 const LikeliestRequest* requests, const SlicesWorkspace workspace,
                 LikeliestSummary* summaries, TokenLogit* likeliest) {
  using Selection = LikeliestSelection<kSelectingThreads>;
  __shared__ typename Selection::Shared shared;
  AllowLaterKernels();
  WaitForEarlierKernels();

  const int row = blockIdx.x;
  const LikeliestRequest request = requests[row];
  const SliceSummary whole =
      MergeSlices<kSelectingThreads>(workspace.summaries + static_cast<int64_t>(row) * cut.slices,
                                     cut.slices, request.inverse_temperature);

  int named = whole.best != 0 ? 1 : 0;
  if (request.likeliest > 1) {
    named = Selection::Run(logits, cut, aligned, row,
                           workspace.group_keys + static_cast<int64_t>(row) * cut.groups,
                           request.likeliest, shared);
    for (int rank = threadIdx.x; rank < named; rank += kSelectingThreads) {
      const RankedToken ranked = shared.best[rank];
      likeliest[static_cast<int64_t>(rank) * logits.rows + row] = {ValueOf(ranked),
                                                                   TokenOf(ranked)};
    }
  }
  if (threadIdx.x != 0) return;
  if (request.likeliest == 1) likeliest[row] = {ValueOf(whole.best), TokenOf(whole.best)};
  LikeliestSummary summary;
  summary.max = ValueOf(whole.best);
  summary.sum = whole.sum;
  summary.tempered_sum = whole.tempered_sum;
  summary.likeliest = named;
  summary.drawn_token = -1;
  if (whole.drawn != 0) {
    summary.drawn_value = ValueOf(whole.drawn);
    summary.drawn_token = TokenOf(whole.drawn);
    summary.drawn_logit =
        logits.values[row * logits.width + (summary.drawn_token - logits.first_token)];
  }
  const int64_t target = static_cast<int64_t>(request.target) - logits.first_token;
  if (target >= 0 && target < logits.tokens) {
    const float logit = logits.values[row * logits.width + target];
    if (!isnan(logit)) summary.target_logit = logit;
  }
  summaries[row] = summary;
}

SlicesWorkspace PlaceWorkspace(int rows, const LogitSlices& cut, void* workspace) {
  SliceSummary* summaries = static_cast<SliceSummary*>(workspace);
  return {summaries,
          reinterpret_cast<uint32_t*>(summaries + static_cast<int64_t>(rows) * cut.slices)};
}

void CheckShape(const DeviceLogits& logits, const void* workspace) {
  assert(logits.rows >= 1 && logits.width <= kMostLogitColumns);
  assert(logits.tokens >= 0 && logits.tokens <= logits.width && logits.first_token >= 0);
  assert(reinterpret_cast<uintptr_t>(workspace) % alignof(SliceSummary) == 0);
}

}  // namespace

size_t LikeliestWorkspaceBytes(int rows, int64_t width) {
  size_t most = 0;
  for (int first_token = 0; first_token < 4; ++first_token) {
    const LogitSlices cut(width, first_token);
    const size_t bytes = cut.slices * sizeof(SliceSummary) + cut.groups * sizeof(uint32_t);
    most = bytes > most ? bytes : most;
  }
  return rows * most;
}

cudaError_t LaunchLikeliest(const DeviceLogits& logits, const LikeliestRequest* requests,
                            float* summaries, void* workspace, cudaStream_t stream) {
  CheckShape(logits, workspace);
  const LogitSlices cut(logits.width, logits.first_token);
  const SlicesWorkspace placed = PlaceWorkspace(logits.rows, cut, workspace);
  const bool aligned = QuadsAligned(logits, cut);
  const cudaError_t error =
      LaunchDependent(SummarizeSlicesKernel, dim3(cut.slices, logits.rows),
                      LogitSlices::kSliceQuads, 0, stream, logits, cut, aligned, requests, placed);
  if (error != cudaSuccess) return error;
  return LaunchDependent(SelectKernel, logits.rows, kSelectingThreads, 0, stream, logits, cut,
                         aligned, requests, placed, SummariesOf(summaries),
                         LikeliestOf(summaries, logits.rows));
}

}  // namespace weir
