#ifndef WEIR_KERNELS_BACKEND_H_
#define WEIR_KERNELS_BACKEND_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/kv_storage.h"
#include "kernels/likeliest.h"
#include "kernels/sequence_step.h"
#include "kernels/tensor.h"
#include "kernels/weight_type.h"

namespace weir {

// One row of a weight matrix as it lies in the model file: `cols` weights of `type`.
struct WeightRow {
  const std::byte* data = nullptr;
  WeightType type = WeightType::kF32;
};

// Weights of one linear map, in the form the backend multiplies fastest. rows are outputs.
class Matrix {
 public:
  virtual ~Matrix() = default;
  virtual int64_t rows() const = 0;
  virtual int64_t cols() const = 0;
  virtual int64_t bytes() const = 0;
};

// Consecutive activation rows that belong to one sequence. A row's result depends on its group
// alone, bit for bit, never on what else is in the batch or how many threads run.
struct RowGroup {
  int first_row = 0;
  int rows = 0;
};

// What one step reads and does, in the form and memory in which the backend's operations take it:
// loaded once a step, used by all layers.
class DeviceStep {
 public:
  virtual ~DeviceStep() = default;
};

// What is asked of the rows of a matrix of logits, in the same way.
class DeviceRequests {
 public:
  virtual ~DeviceRequests() = default;
};

// cos and sin of every rotation a step can need, made in double precision by the model:
// [rotations][head_dim / 2] each. Pairs are (i, i + head_dim / 2).
struct RopeTable {
  int rotations = 0;
  int head_dim = 0;
  std::vector<float> cos;
  std::vector<float> sin;
};

// The device operations of Weir. A backend owns its memory and one execution stream; operations
// are enqueued in order and may return before they ran. Host data passed in may be reused when the
// call returns. Shapes are the caller's promise (asserted); device faults surface at Synchronize.
// Not thread-safe: one engine thread drives it.
//
// Activations are tensors of `activation_type()`; scores and logits are float32.
class Backend {
 public:
  virtual ~Backend() = default;

  // Such as "cpu (avx512, 2 threads)".
  virtual std::string description() const = 0;
  virtual ElementType activation_type() const = 0;
  // The stream that a device communicator enqueues on (a cudaStream_t); null on the CPU.
  virtual void* stream() { return nullptr; }
  // From now on, while this backend waits for its device it asks `check` every few milliseconds; an
  // error ends the wait and is returned, by calls without a result at the next Synchronize. For a
  // communicator whose peers may be gone, which leaves the device waiting for ever, unless `check`
  // has found out. Null: nothing is asked.
  virtual void SetWaitCheck(std::function<absl::Status()> check) {}

  // Bytes of device memory that are still to be had, as the system tells.
  virtual absl::StatusOr<int64_t> FreeBytes() const = 0;

  // ---- Start-up. RESOURCE_EXHAUSTED names what did not fit. ----

  virtual absl::StatusOr<Tensor> AllocateTensor(ElementType type, int64_t rows, int64_t cols) = 0;
  // Gathers `rows` (all of `cols` weights; types may differ) into a matrix, so slices, permutations
  // and fused maps are only a matter of which rows are named. `cols` is a multiple of every row's
  // block size. The file may be closed afterwards.
  virtual absl::StatusOr<std::unique_ptr<Matrix>> LoadMatrix(absl::Span<const WeightRow> rows,
                                                             int64_t cols) = 0;
  // As LoadMatrix, for looking rows up (Embed) instead of multiplying.
  virtual absl::StatusOr<std::unique_ptr<Matrix>> LoadTable(absl::Span<const WeightRow> rows,
                                                            int64_t cols) = 0;
  // A float32 tensor [1, values] with these values.
  virtual absl::StatusOr<Tensor> LoadVector(absl::Span<const float> values) = 0;
  virtual absl::StatusOr<std::unique_ptr<KvStorage>> AllocateKv(const KvShape& shape,
                                                                const RopeTable& rope) = 0;
  // Room for steps of at most `rows` rows and `sequences` sequences of sessions in a KvStorage of
  // this shape.
  virtual absl::StatusOr<std::unique_ptr<DeviceStep>> AllocateStep(const KvShape& shape, int rows,
                                                                   int sequences) = 0;

  // Room for the requests of `rows` rows of `width` logits, and for what SummarizeLogits works in.
  virtual absl::StatusOr<std::unique_ptr<DeviceRequests>> AllocateRequests(int rows,
                                                                           int64_t width) = 0;

  // ---- Recording ----

  // Rows that a step of `sequences` sequences, of a row each, runs with: at least `sequences`. A
  // backend that records steps rounds up, so that few recordings serve; rows without a sequence
  // compute something that nobody reads.
  virtual int PaddedRows(int sequences) const { return sequences; }
  // Enqueues what `enqueue` enqueues, and returns what it returns. Calls with the same key enqueue
  // the same operations on the same tensors, while what a DeviceStep or DeviceRequests holds may
  // differ; so a backend may record the first and replay it afterwards instead of calling
  // `enqueue`.
  virtual absl::Status Replay(int64_t key, absl::FunctionRef<absl::Status()> enqueue) {
    return enqueue();
  }
  // Records what Replay of this key will do, without doing it; for start-up.
  virtual absl::Status Record(int64_t key, absl::FunctionRef<absl::Status()> enqueue) {
    return absl::OkStatus();
  }
  // Forgets all recordings: they name tensors or a communicator that will be gone.
  virtual void ForgetRecordings() {}

  // ---- One step ----

  // Makes `step` hold these tokens, row by row, and sequences. Sequences with rows cover the tokens
  // in order; sequences without rows come after them and only name their session (see
  // RecallLastRows). Either there is one sequence, or none has more than a row, and sequence i's is
  // row i. Operations enqueued before still see what it held before.
  virtual void LoadStep(absl::Span<const int32_t> tokens, absl::Span<const SequenceStep> sequences,
                        DeviceStep& step) = 0;

  // out[r] = table[token of row r], as float32 or activations. Any token for rows without one.
  virtual void Embed(const Matrix& table, const DeviceStep& step, Tensor out) = 0;
  // out[r] = x[r] / rms(x[r]) * weight; x is float32.
  virtual void RmsNorm(Tensor x, Tensor weight, float epsilon, Tensor out) = 0;
  // x += delta, then RmsNorm of x into out. x, the residual, is float32 on every backend: all that
  // layers add is added to it.
  virtual void AddRmsNorm(Tensor x, Tensor delta, Tensor weight, float epsilon, Tensor out) = 0;
  // out[r] = weights · x[r] for every row of every group. out may be float32 whatever x is.
  virtual void MatMul(absl::Span<const RowGroup> groups, Tensor x, const Matrix& weights,
                      Tensor out) = 0;
  // gate_up = [gate | up], each as wide as out: out = silu(gate) * up.
  virtual void SwiGlu(Tensor gate_up, Tensor out) = 0;
  // MatMul into gate_up, then SwiGlu of that into out; or the same without gate_up, whose contents
  // are unspecified afterwards.
  virtual void MatMulSwiGlu(absl::Span<const RowGroup> groups, Tensor x, const Matrix& weights,
                            Tensor gate_up, Tensor out) {
    MatMul(groups, x, weights, gate_up);
    SwiGlu(gate_up, out);
  }
  // to = from; same shape and type.
  virtual void CopyRows(Tensor from, Tensor to) = 0;
  // The same for memory of another device, in two steps: what is enqueued between them runs beside
  // the copies and leaves both tensors alone; what is enqueued after FinishCopies comes behind all
  // that were started.
  virtual void StartCopy(Tensor from, Tensor to) { CopyRows(from, to); }
  virtual void FinishCopies() {}
  // kept[session's cache slot] = x[last row of the sequence], for every sequence with rows.
  virtual void KeepLastRows(const DeviceStep& step, Tensor x, Tensor kept) = 0;
  // out[i] = kept[cache slot of sequence i].
  virtual void RecallLastRows(const DeviceStep& step, Tensor kept, Tensor out) = 0;

  // Attention of every sequence's rows over its cached segments and, causally, its own rows.
  //   qkv         [rows, (query_heads + 2 * kv_heads) * head_dim] queries | keys | values, not
  //               rotated; left as it is
  //   out         [rows, query_heads * head_dim]
  //   row_scores  float32 [kv_heads, max_step_rows]; receives each row's own score, by row
  // Scores (c[h, key] = sum over rows q of beta^(rows-1-q) * p[h, q, key], reduced over the query
  // heads h of a KV head; the method's factor 1 - beta is common to all and left out) are added to
  // the cached slots' scores after these have decayed by beta^rows; own keys start from 0.
  virtual void Attend(KvStorage& kv, int layer, const DeviceStep& step, Tensor qkv, Tensor out,
                      Tensor row_scores) = 0;
  // Admits every sequence's rows to its cache as `step` says. Comes after Attend of the same layer,
  // with the same qkv and row_scores.
  virtual void Admit(KvStorage& kv, int layer, const DeviceStep& step, Tensor qkv,
                     Tensor row_scores) = 0;

  // Makes `to` hold these requests, row by row; of rows without one only a minimum is made.
  // Operations enqueued before still see what it held before.
  virtual void LoadRequests(absl::Span<const LikeliestRequest> requests, DeviceRequests& to) = 0;
  // Reduces each row of logits as its request says. The first `tokens` columns are the tokens
  // [first_token, first_token + tokens) of the vocabulary; the others are padding.
  //   out  float32 [SummaryLines(most), 2 * rows], the summary tensor (likeliest.h), with room for
  //        as many likeliest tokens as any of the requests asks for
  virtual void SummarizeLogits(Tensor logits, int32_t first_token, int32_t tokens,
                               const DeviceRequests& requests, Tensor out) = 0;

  // Waits for everything enqueued, then copies x to `out` (x.elements() of them).
  virtual absl::Status CopyToHost(Tensor x, absl::Span<float> out) = 0;
  // Waits for everything enqueued and reports the first device fault. After an error, also one of
  // SetWaitCheck's, some of it may still be running.
  virtual absl::Status Synchronize() = 0;
};

}  // namespace weir

#endif  // WEIR_KERNELS_BACKEND_H_
