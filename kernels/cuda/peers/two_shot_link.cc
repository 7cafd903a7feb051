#include "kernels/cuda/peers/two_shot_link.h"

#include <cassert>
#include <cstddef>

#include "kernels/cuda/common/cuda_status.h"
#include "kernels/row_share.h"

namespace weir {
namespace {

constexpr int64_t kAlignment = 256;

// Where the parts of a rank's memory begin, for `rows` rows of `width`. The same on all ranks.
struct Layout {
  int64_t slabs[kTwoShotMostRanks];  // by the rank that writes there
  int64_t normed;
  int64_t flags;
  int64_t count;
  int64_t bytes;

  Layout(int ranks, int64_t rows, int64_t width) {
    const int64_t row_bytes = width * ElementBytes(ElementType::kBFloat16);
    int64_t end = 0;
    const auto add = [&](int64_t bytes) {
      const int64_t begin = end;
      end += (bytes + kAlignment - 1) / kAlignment * kAlignment;
      return begin;
    };
    for (int rank = 0; rank < ranks; ++rank) {
      slabs[rank] = add(MostRowsOfShare(rows, ranks) * row_bytes);
    }
    normed = add(rows * row_bytes);
    flags = add(sizeof(TwoShotFlags));
    count = add(sizeof(TwoShotCount));
    bytes = end;
  }
};

}  // namespace

absl::StatusOr<std::unique_ptr<TwoShotLink>> TwoShotLink::Create(const OneShotLink& link,
                                                                 int device, int64_t rows,
                                                                 int64_t width) {
  std::unique_ptr<TwoShotLink> made(new TwoShotLink);
  const OneShotRanks& group = link.ranks();
  assert(group.ranks <= kTwoShotMostRanks);
  const Layout layout(group.ranks, rows, width);
  absl::StatusOr<std::unique_ptr<PeerMemory>> memory = PeerMemory::Create(device, layout.bytes);
  if (!memory.ok()) return memory.status();
  made->memory_ = *std::move(memory);
  std::byte* const data = made->memory_->data();
  made->normed_ = {data + layout.normed, ElementType::kBFloat16, rows, width};
  made->ranks_.rank = group.rank;
  made->ranks_.ranks = group.ranks;
  made->ranks_.aborted = group.aborted;
  made->ranks_.gave_up = group.gave_up;
  made->ranks_.count = reinterpret_cast<TwoShotCount*>(data + layout.count);
  // No rank writes here before it has this one's card.
  absl::Status status = CudaStatus(cudaMemsetAsync(data, 0, layout.bytes, cudaStreamPerThread),
                                   "cannot clear shared rows");
  status.Update(CudaStatus(cudaStreamSynchronize(cudaStreamPerThread), "cannot clear shared rows"));
  if (!status.ok()) return status;
  return made;
}

absl::Status TwoShotLink::Connect(absl::Span<const std::string> cards) {
  assert(static_cast<int>(cards.size()) == ranks_.ranks && deltas_.empty());
  const Layout layout(ranks_.ranks, normed_.rows, normed_.cols);
  for (int peer = 0; peer < ranks_.ranks; ++peer) {
    std::byte* data = memory_->data();
    if (peer != ranks_.rank) {
      const absl::StatusOr<std::byte*> opened = memory_->Open(cards[peer]);
      if (!opened.ok()) return opened.status();
      data = *opened;
    }
    deltas_.push_back({data + layout.slabs[ranks_.rank], ElementType::kBFloat16,
                       MostRowsOfShare(normed_.rows, ranks_.ranks), normed_.cols});
    ranks_.deltas[peer] =
        reinterpret_cast<const __nv_bfloat16*>(memory_->data() + layout.slabs[peer]);
    ranks_.normed[peer] = reinterpret_cast<__nv_bfloat16*>(data + layout.normed);
    ranks_.flags[peer] = reinterpret_cast<TwoShotFlags*>(data + layout.flags);
  }
  // As for small sums: all count from one number, which is random so that nothing that a rank of an
  // earlier group may still write is taken for this group's.
  const absl::StatusOr<uint64_t> first_call = NonceOfCard(cards[0]);
  if (!first_call.ok()) return first_call.status();
  const TwoShotCount count = {.call = *first_call, .blocks_done = 0};
  absl::Status status = CudaStatus(cudaMemcpyAsync(ranks_.count, &count, sizeof(count),
                                                   cudaMemcpyHostToDevice, cudaStreamPerThread),
                                   "cannot number calls");
  status.Update(CudaStatus(cudaStreamSynchronize(cudaStreamPerThread), "cannot number calls"));
  return status;
}

absl::Status TwoShotLink::AddNorm(Tensor residual, Tensor weight, float epsilon,
                                  cudaStream_t stream) {
  assert(residual.type == ElementType::kFloat32 && weight.type == ElementType::kFloat32);
  assert(residual.rows <= normed_.rows && residual.cols == normed_.cols);
  return CudaStatus(LaunchTwoShotAddNorm(ranks_, static_cast<float*>(residual.data),
                                         static_cast<const float*>(weight.data), epsilon,
                                         static_cast<int>(residual.rows),
                                         static_cast<int>(residual.cols), stream),
                    "cannot launch a sum of many rows");
}

}  // namespace weir
