#include "kernels/cuda/cuda_backend.h"

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <bit>
#include <cassert>
#include <functional>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kernels/cuda/chunk_pass.h"
#include "kernels/cuda/common/bfloat16_tensor.h"
#include "kernels/cuda/common/cuda_stream.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/cuda_kv_storage.h"
#include "kernels/cuda/cuda_matrix.h"
#include "kernels/cuda/cuda_requests.h"
#include "kernels/cuda/cuda_step.h"
#include "kernels/cuda/decode/decode_attention.h"
#include "kernels/cuda/decode/likeliest.h"
#include "kernels/cuda/device_memory.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/grouped_matmul.h"
#include "kernels/cuda/side_stream.h"
#include "kernels/cuda/step_recordings.h"
#include "kernels/cuda/stream_wait.h"

namespace weir {
namespace {

const CudaStep& OnDevice(const DeviceStep& step) { return static_cast<const CudaStep&>(step); }

int Width(Tensor x) { return static_cast<int>(x.cols); }
int Count(Tensor x) { return static_cast<int>(x.rows); }

class CudaBackend final : public Backend {
 public:
  CudaBackend(CudaDevice device, const CudaOptions& options, cudaStream_t stream,
              std::unique_ptr<SideStream> side, WeightUploader uploader, GroupedMatMul matmul)
      : device_(std::move(device)),
        scores_(options.exact_scores ? ScoreMode::kExact : ScoreMode::kFast),
        stream_(stream),
        side_(std::move(side)),
        uploader_(std::move(uploader)),
        matmul_(std::move(matmul)),
        recordings_(stream) {}

  ~CudaBackend() override {
    (void)cudaStreamSynchronize(stream_);
    recordings_.Forget();
    (void)cudaStreamDestroy(stream_);
  }

  std::string description() const override {
    return absl::StrCat("cuda (", device_.name,
                        scores_ == ScoreMode::kExact ? ", exact scores)" : ")");
  }
  ElementType activation_type() const override { return ElementType::kBFloat16; }
  void* stream() override { return stream_; }
  void SetWaitCheck(std::function<absl::Status()> check) override {
    wait_.SetCheck(std::move(check));
  }

  absl::StatusOr<int64_t> FreeBytes() const override {
    size_t free = 0;
    size_t total = 0;
    cudaError_t error = cudaSetDevice(device_.gpu);
    if (error == cudaSuccess) error = cudaMemGetInfo(&free, &total);
    if (error != cudaSuccess) return CudaStatus(error, "asking for free memory");
    return std::max<int64_t>(0, static_cast<int64_t>(free) - kReservedBytes);
  }

  // ---- Start-up ----

  absl::StatusOr<Tensor> AllocateTensor(ElementType type, int64_t rows, int64_t cols) override {
    absl::StatusOr<DeviceMemory> memory = AllocateDevice(
        rows * cols * ElementBytes(type), absl::StrCat("a tensor [", rows, ", ", cols, "]"));
    if (!memory.ok()) return memory.status();
    tensors_.push_back(*std::move(memory));
    return Tensor{tensors_.back().as<void>(), type, rows, cols};
  }

  absl::StatusOr<std::unique_ptr<Matrix>> LoadMatrix(absl::Span<const WeightRow> rows,
                                                     int64_t cols) override {
    return uploader_.Upload(rows, cols);
  }
  absl::StatusOr<std::unique_ptr<Matrix>> LoadTable(absl::Span<const WeightRow> rows,
                                                    int64_t cols) override {
    return uploader_.Upload(rows, cols);
  }

  absl::StatusOr<Tensor> LoadVector(absl::Span<const float> values) override {
    absl::StatusOr<Tensor> tensor =
        AllocateTensor(ElementType::kFloat32, 1, static_cast<int64_t>(values.size()));
    if (!tensor.ok()) return tensor;
    const cudaError_t error =
        CopyToDevice(tensor->data, values.data(), values.size() * sizeof(float));
    if (error != cudaSuccess) return CudaStatus(error, "loading a vector");
    return tensor;
  }

  absl::StatusOr<std::unique_ptr<KvStorage>> AllocateKv(const KvShape& shape,
                                                        const RopeTable& rope) override {
    if (shape.head_dim != 64 && shape.head_dim != 128) {
      return absl::UnimplementedError(absl::StrCat(
          "heads of ", shape.head_dim, " dimensions; the CUDA backend has kernels for 64 and 128"));
    }
    if (shape.query_heads > DecodeAttention::kMostGroup * shape.kv_heads) {
      return absl::UnimplementedError(absl::StrCat(
          shape.query_heads, " query heads on ", shape.kv_heads,
          " KV heads; the CUDA backend takes at most ", DecodeAttention::kMostGroup, " on each"));
    }
    return CudaKvStorage::Allocate(shape, rope, PaddedRows(shape.sessions), stream_);
  }

  absl::StatusOr<std::unique_ptr<DeviceStep>> AllocateStep(const KvShape& shape, int rows,
                                                           int sequences) override {
    const int padded = PaddedRows(sequences);
    return CudaStep::Allocate(shape, std::max(rows, padded), padded, device_.multiprocessors);
  }

  absl::StatusOr<std::unique_ptr<DeviceRequests>> AllocateRequests(int rows,
                                                                   int64_t width) override {
    return CudaRequests::Allocate(rows, width);
  }

  // ---- Recording ----

  int PaddedRows(int sequences) const override {
    if (sequences <= 8) return static_cast<int>(std::bit_ceil(static_cast<unsigned>(sequences)));
    return (sequences + 7) / 8 * 8;
  }

  absl::Status Replay(int64_t key, absl::FunctionRef<absl::Status()> enqueue) override {
    if (!recordings_.Has(key)) {
      if (absl::Status recorded = Record(key, enqueue); !recorded.ok()) return recorded;
    }
    return recordings_.Replay(key);
  }
  absl::Status Record(int64_t key, absl::FunctionRef<absl::Status()> enqueue) override {
    Check(cudaSetDevice(device_.gpu));
    if (!status_.ok()) return status_;
    const auto enqueue_all = [&] {
      const absl::Status enqueued = enqueue();
      const cudaError_t joined = side_->Join(stream_);
      if (enqueued.ok()) Check(joined);  // a recording that has failed says so itself
      return enqueued;
    };
    if (absl::Status recorded = recordings_.Record(key, enqueue_all); !recorded.ok()) {
      return recorded;
    }
    return status_;
  }
  void ForgetRecordings() override { recordings_.Forget(); }

  // ---- One step ----

  void LoadStep(absl::Span<const int32_t> tokens, absl::Span<const SequenceStep> sequences,
                DeviceStep& step) override {
    // The engine's thread may not be the one that made this backend.
    Check(cudaSetDevice(device_.gpu));
    CudaStep& to = static_cast<CudaStep&>(step);
    Check(wait_.ForUpload(to.uploaded()));
    Check(to.Load(tokens, sequences, stream_));
  }

  void Embed(const Matrix& table, const DeviceStep& step, Tensor out) override {
    const CudaMatrix& matrix = static_cast<const CudaMatrix&>(table);
    const int32_t* tokens = OnDevice(step).tokens();
    if (out.type == ElementType::kFloat32) {
      Check(LaunchEmbed(matrix.data(), tokens, Count(out), Width(out), out.f32(), stream_));
    } else {
      Check(LaunchEmbed(matrix.data(), tokens, Count(out), Width(out), BFloat16s(out), stream_));
    }
  }

  void RmsNorm(Tensor x, Tensor weight, float epsilon, Tensor out) override {
    Check(LaunchRmsNorm(x.f32(), nullptr, weight.f32(), epsilon, Count(x), Width(x), BFloat16s(out),
                        stream_));
  }

  void AddRmsNorm(Tensor x, Tensor delta, Tensor weight, float epsilon, Tensor out) override {
    Check(LaunchRmsNorm(x.f32(), BFloat16s(delta), weight.f32(), epsilon, Count(x), Width(x),
                        BFloat16s(out), stream_));
  }

  void MatMul(absl::Span<const RowGroup> groups, Tensor x, const Matrix& weights,
              Tensor out) override {
    Check(matmul_.Run(groups, x, static_cast<const CudaMatrix&>(weights), out, stream_));
  }

  void SwiGlu(Tensor gate_up, Tensor out) override {
    Check(LaunchSwiGlu(BFloat16s(gate_up), Count(out), Width(out), BFloat16s(out), stream_));
  }

  void MatMulSwiGlu(absl::Span<const RowGroup> groups, Tensor x, const Matrix& weights,
                    Tensor gate_up, Tensor out) override {
    Check(matmul_.RunSwiGlu(groups, x, static_cast<const CudaMatrix&>(weights), gate_up, out,
                            stream_));
  }

  void CopyRows(Tensor from, Tensor to) override {
    assert(to.rows == from.rows && to.cols == from.cols && to.type == from.type);
    Check(cudaMemcpyAsync(to.data, from.data, from.elements() * ElementBytes(from.type),
                          cudaMemcpyDeviceToDevice, stream_));
  }

  // The copy engines take no multiprocessor from what runs beside.
  void StartCopy(Tensor from, Tensor to) override {
    assert(to.rows == from.rows && to.cols == from.cols && to.type == from.type);
    Check(side_->Fork(stream_));
    Check(cudaMemcpyAsync(to.data, from.data, from.elements() * ElementBytes(from.type),
                          cudaMemcpyDefault, side_->stream()));
  }
  void FinishCopies() override { Check(side_->Join(stream_)); }

  void KeepLastRows(const DeviceStep& step, Tensor x, Tensor kept) override {
    const CudaStep& device_step = OnDevice(step);
    // A decode step's sequences are rows, and a recording of it serves any number of them.
    const int count = device_step.chunk() != nullptr ? 1 : Count(x);
    Check(LaunchCopyRows(BFloat16s(x), device_step.last_rows(), count, Width(x), BFloat16s(kept),
                         device_step.kept_slots(), stream_));
  }

  void RecallLastRows(const DeviceStep& step, Tensor kept, Tensor out) override {
    Check(LaunchCopyRows(BFloat16s(kept), OnDevice(step).cache_slots(), Count(out), Width(out),
                         BFloat16s(out), nullptr, stream_));
  }

  void Attend(KvStorage& kv, int layer, const DeviceStep& step, Tensor qkv, Tensor out,
              Tensor row_scores) override {
    CudaKvStorage& storage = static_cast<CudaKvStorage&>(kv);
    if (OnDevice(step).chunk() != nullptr) {
      Check(EnqueueChunkAttention(Chunk(storage, layer, step, qkv, row_scores), out, stream_));
      return;
    }
    DecodeAttention attention = storage.decode_attention(layer);
    attention.sequences = Count(qkv);
    attention.sequence = OnDevice(step).decodes();
    attention.qkv = BFloat16s(qkv);
    attention.qkv_stride = qkv.cols;
    attention.out = BFloat16s(out);
    attention.out_stride = out.cols;
    // Only the next step needs scores and admission. Recorded, they are a branch beside what
    // follows, up to the next layer's attention, which uses the same scratch.
    Check(side_->Join(stream_));
    Check(LaunchDecodeAttention(attention, stream_));
    if (recordings_.recording()) {
      Check(side_->Fork(stream_));
      Check(LaunchDecodeAdmission(attention, side_->stream()));
    } else {
      Check(LaunchDecodeAdmission(attention, stream_));
    }
  }

  void Admit(KvStorage& kv, int layer, const DeviceStep& step, Tensor qkv,
             Tensor row_scores) override {
    if (OnDevice(step).chunk() == nullptr) return;
    CudaKvStorage& storage = static_cast<CudaKvStorage&>(kv);
    Check(EnqueueChunkAdmission(Chunk(storage, layer, step, qkv, row_scores), stream_));
  }

  void LoadRequests(absl::Span<const LikeliestRequest> requests, DeviceRequests& to) override {
    Check(cudaSetDevice(device_.gpu));
    CudaRequests& on_device = static_cast<CudaRequests&>(to);
    Check(wait_.ForUpload(on_device.uploaded()));
    Check(on_device.Load(requests, stream_));
  }

  void SummarizeLogits(Tensor logits, int32_t first_token, int32_t tokens,
                       const DeviceRequests& requests, Tensor out) override {
    assert(out.rows > SummaryLines(0) && out.cols == 2 * logits.rows);
    const CudaRequests& on_device = static_cast<const CudaRequests&>(requests);
    Check(LaunchLikeliest({.values = logits.f32(),
                           .rows = Count(logits),
                           .width = logits.cols,
                           .first_token = first_token,
                           .tokens = tokens},
                          on_device.data(), out.f32(), on_device.workspace(), stream_));
  }

  absl::Status CopyToHost(Tensor x, absl::Span<float> out) override {
    assert(static_cast<int64_t>(out.size()) == x.elements());
    // A copy to memory that is not pinned waits for the stream without asking how the others are.
    // Behind this, the copy alone is waited for.
    if (absl::Status status = Synchronize(); !status.ok()) return status;
    if (x.type == ElementType::kFloat32) {
      Check(cudaMemcpyAsync(out.data(), x.data, x.elements() * sizeof(float),
                            cudaMemcpyDeviceToHost, stream_));
      Check(cudaStreamSynchronize(stream_));
      return status_;
    }
    std::vector<__nv_bfloat16> values(x.elements());
    Check(cudaMemcpyAsync(values.data(), x.data, x.elements() * sizeof(__nv_bfloat16),
                          cudaMemcpyDeviceToHost, stream_));
    Check(cudaStreamSynchronize(stream_));
    std::transform(values.begin(), values.end(), out.begin(),
                   [](__nv_bfloat16 value) { return __bfloat162float(value); });
    return status_;
  }

  absl::Status Synchronize() override {
    Check(cudaSetDevice(device_.gpu));
    if (!status_.ok()) return status_;
    const absl::StatusOr<cudaError_t> ended = wait_.ForStream(stream_);
    if (!ended.ok()) return ended.status();
    Check(*ended);
    return status_;
  }

 private:
  // For kernels' code and recordings, which CUDA loads when they are first used.
  static constexpr int64_t kReservedBytes = 512 << 20;

  ChunkPass Chunk(CudaKvStorage& kv, int layer, const DeviceStep& step, Tensor qkv,
                  Tensor row_scores) const {
    return {kv, layer, OnDevice(step), qkv, row_scores, device_.hopper(), scores_};
  }

  // Keeps the first fault; Synchronize reports it.
  void Check(const absl::Status& status) {
    if (status_.ok() && !status.ok()) status_ = status;
  }
  void Check(cudaError_t error) {
    if (error != cudaSuccess) Check(CudaStatus(error, "the GPU"));
  }

  const CudaDevice device_;
  const ScoreMode scores_;
  cudaStream_t stream_;
  std::unique_ptr<SideStream> side_;
  WeightUploader uploader_;
  GroupedMatMul matmul_;
  std::vector<DeviceMemory> tensors_;
  StepRecordings recordings_;
  StreamWait wait_;
  absl::Status status_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Backend>> CreateCudaBackend(const CudaOptions& options) {
  absl::StatusOr<CudaDevice> device = OpenCudaDevice(options.gpu);
  if (!device.ok()) return device.status();
  absl::StatusOr<WeightUploader> uploader = WeightUploader::Create();
  if (!uploader.ok()) return uploader.status();
  absl::StatusOr<GroupedMatMul> matmul = GroupedMatMul::Create();
  if (!matmul.ok()) return matmul.status();
  absl::StatusOr<std::unique_ptr<SideStream>> side = SideStream::Create();
  if (!side.ok()) return side.status();
  absl::StatusOr<cudaStream_t> stream = CreateStream(StreamPriority::kHigh);
  if (!stream.ok()) return stream.status();
  return std::make_unique<CudaBackend>(*std::move(device), options, *stream, *std::move(side),
                                       *std::move(uploader), *std::move(matmul));
}

}  // namespace weir
