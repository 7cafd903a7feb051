#include "kernels/cpu/cpu_backend.h"

#include <algorithm>
#include <cassert>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "kernels/cpu/admission.h"
#include "kernels/cpu/aligned_memory.h"
#include "kernels/cpu/attention.h"
#include "kernels/cpu/cpu_kv_storage.h"
#include "kernels/cpu/elementwise.h"
#include "kernels/cpu/likeliest.h"
#include "kernels/cpu/lookup_table.h"
#include "kernels/cpu/matmul.h"
#include "kernels/cpu/packed_matrix.h"
#include "kernels/cpu/thread_pool.h"

namespace weir {
namespace {

struct CpuStep final : DeviceStep {
  std::vector<int32_t> tokens;
  std::vector<SequenceStep> sequences;
  int with_rows = 0;  // of the sequences, the first

  absl::Span<const SequenceStep> SequencesWithRows() const {
    return absl::MakeConstSpan(sequences).first(with_rows);
  }
};

const CpuStep& OnCpu(const DeviceStep& step) { return static_cast<const CpuStep&>(step); }

struct CpuRequests final : DeviceRequests {
  std::vector<LikeliestRequest> rows;
};

class CpuBackend final : public Backend {
 public:
  explicit CpuBackend(int threads)
      : pool_(threads), matmul_(pool_), attention_(pool_), admission_(pool_), likeliest_(pool_) {}

  std::string description() const override {
    return absl::StrCat("cpu (", InstructionSet(), ", ", pool_.threads(), " threads)");
  }
  ElementType activation_type() const override { return ElementType::kFloat32; }

  absl::StatusOr<int64_t> FreeBytes() const override {
    std::ifstream meminfo("/proc/meminfo");
    std::string key, unit;
    int64_t kibibytes = 0;
    while (meminfo >> key >> kibibytes) {
      if (key == "MemAvailable:") return kibibytes * 1024;
      std::getline(meminfo, unit);
    }
    return absl::UnavailableError("/proc/meminfo does not tell MemAvailable");
  }

  absl::StatusOr<Tensor> AllocateTensor(ElementType type, int64_t rows, int64_t cols) override {
    absl::StatusOr<AlignedMemory> memory = AlignedMemory::Allocate(
        rows * cols * ElementBytes(type), absl::StrCat("a tensor [", rows, ", ", cols, "]"));
    if (!memory.ok()) return memory.status();
    tensors_.push_back(std::move(*memory));
    return Tensor{tensors_.back().data(), type, rows, cols};
  }

  absl::StatusOr<std::unique_ptr<Matrix>> LoadMatrix(absl::Span<const WeightRow> rows,
                                                     int64_t cols) override {
    return PackedMatrix::Pack(rows, cols, pool_);
  }

  absl::StatusOr<std::unique_ptr<Matrix>> LoadTable(absl::Span<const WeightRow> rows,
                                                    int64_t cols) override {
    return LookupTable::Copy(rows, cols);
  }

  absl::StatusOr<Tensor> LoadVector(absl::Span<const float> values) override {
    absl::StatusOr<Tensor> tensor =
        AllocateTensor(ElementType::kFloat32, 1, static_cast<int64_t>(values.size()));
    if (tensor.ok()) std::copy(values.begin(), values.end(), tensor->f32());
    return tensor;
  }

  absl::StatusOr<std::unique_ptr<KvStorage>> AllocateKv(const KvShape& shape,
                                                        const RopeTable& rope) override {
    return CpuKvStorage::Allocate(shape, rope);
  }

  absl::StatusOr<std::unique_ptr<DeviceStep>> AllocateStep(const KvShape&, int rows,
                                                           int sequences) override {
    auto step = std::make_unique<CpuStep>();
    step->tokens.reserve(rows);
    step->sequences.reserve(sequences);
    return step;
  }

  absl::StatusOr<std::unique_ptr<DeviceRequests>> AllocateRequests(int rows, int64_t) override {
    auto requests = std::make_unique<CpuRequests>();
    requests->rows.resize(rows);
    return requests;
  }

  void LoadStep(absl::Span<const int32_t> tokens, absl::Span<const SequenceStep> sequences,
                DeviceStep& step) override {
    CpuStep& to = static_cast<CpuStep&>(step);
    to.tokens.assign(tokens.begin(), tokens.end());
    to.sequences.assign(sequences.begin(), sequences.end());
    const auto end = std::find_if(sequences.begin(), sequences.end(),
                                  [](const SequenceStep& sequence) { return sequence.rows == 0; });
    to.with_rows = static_cast<int>(end - sequences.begin());
  }

  void Embed(const Matrix& table, const DeviceStep& step, Tensor out) override {
    static_cast<const LookupTable&>(table).Read(pool_, OnCpu(step).tokens, out);
  }

  void RmsNorm(Tensor x, Tensor weight, float epsilon, Tensor out) override {
    weir::RmsNorm(pool_, x, weight, epsilon, out);
  }

  void AddRmsNorm(Tensor x, Tensor delta, Tensor weight, float epsilon, Tensor out) override {
    weir::AddRmsNorm(pool_, x, delta, weight, epsilon, out);
  }

  void MatMul(absl::Span<const RowGroup> groups, Tensor x, const Matrix& weights,
              Tensor out) override {
    matmul_.Run(groups, x, static_cast<const PackedMatrix&>(weights), out);
  }

  void SwiGlu(Tensor gate_up, Tensor out) override { weir::SwiGlu(pool_, gate_up, out); }

  void CopyRows(Tensor from, Tensor to) override {
    assert(to.rows == from.rows && to.cols == from.cols && to.type == from.type);
    std::memmove(to.data, from.data, from.elements() * ElementBytes(from.type));
  }

  void KeepLastRows(const DeviceStep& step, Tensor x, Tensor kept) override {
    for (const SequenceStep& sequence : OnCpu(step).SequencesWithRows()) {
      CopyRows(x.Rows(sequence.first_row + sequence.rows - 1, 1),
               kept.Rows(sequence.cache_slot, 1));
    }
  }

  void RecallLastRows(const DeviceStep& step, Tensor kept, Tensor out) override {
    int row = 0;
    for (const SequenceStep& sequence : OnCpu(step).sequences) {
      CopyRows(kept.Rows(sequence.cache_slot, 1), out.Rows(row++, 1));
    }
  }

  void Attend(KvStorage& kv, int layer, const DeviceStep& step, Tensor qkv, Tensor out,
              Tensor row_scores) override {
    attention_.Run(static_cast<CpuKvStorage&>(kv), layer, OnCpu(step).SequencesWithRows(), qkv, out,
                   row_scores);
  }

  void Admit(KvStorage& kv, int layer, const DeviceStep& step, Tensor qkv,
             Tensor row_scores) override {
    admission_.Run(static_cast<CpuKvStorage&>(kv), layer, OnCpu(step).SequencesWithRows(), qkv,
                   row_scores);
  }

  void LoadRequests(absl::Span<const LikeliestRequest> requests, DeviceRequests& to) override {
    std::vector<LikeliestRequest>& rows = static_cast<CpuRequests&>(to).rows;
    assert(requests.size() <= rows.size());
    std::fill(std::copy(requests.begin(), requests.end(), rows.begin()), rows.end(),
              LikeliestRequest());
  }

  void SummarizeLogits(Tensor logits, int32_t first_token, int32_t tokens,
                       const DeviceRequests& requests, Tensor out) override {
    likeliest_.Run(logits, first_token, tokens,
                   absl::MakeConstSpan(static_cast<const CpuRequests&>(requests).rows)
                       .first(static_cast<size_t>(logits.rows)),
                   out);
  }

  absl::Status CopyToHost(Tensor x, absl::Span<float> out) override {
    assert(static_cast<int64_t>(out.size()) == x.elements());
    std::copy_n(x.f32(), x.elements(), out.data());
    return absl::OkStatus();
  }

  absl::Status Synchronize() override { return absl::OkStatus(); }

 private:
  ThreadPool pool_;
  std::vector<AlignedMemory> tensors_;
  MatMulKernel matmul_;
  AttentionKernel attention_;
  AdmissionKernel admission_;
  LikeliestKernel likeliest_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Backend>> CreateCpuBackend(const CpuOptions& options) {
  if (options.threads < 1 || options.threads > ThreadPool::kMaxThreads) {
    return absl::InvalidArgumentError(absl::StrCat("the number of threads is ", options.threads,
                                                   "; it must be from 1 to ",
                                                   ThreadPool::kMaxThreads));
  }
  return std::make_unique<CpuBackend>(options.threads);
}

}  // namespace weir
