#ifndef WEIR_KERNELS_BACKEND_H_
#define WEIR_KERNELS_BACKEND_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/kv_storage.h"
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

  // ---- One step ----

  // out[r] = table[tokens[r]].
  virtual void Embed(const Matrix& table, absl::Span<const int32_t> tokens, Tensor out) = 0;
  // out[r] = x[r] / rms(x[r]) * weight.
  virtual void RmsNorm(Tensor x, Tensor weight, float epsilon, Tensor out) = 0;
  // x += delta, then RmsNorm of x into out.
  virtual void AddRmsNorm(Tensor x, Tensor delta, Tensor weight, float epsilon, Tensor out) = 0;
  // out[r] = weights · x[r] for every row of every group. out may be float32 whatever x is.
  virtual void MatMul(absl::Span<const RowGroup> groups, Tensor x, const Matrix& weights,
                      Tensor out) = 0;
  // gate_up = [gate | up], each as wide as out: out = silu(gate) * up.
  virtual void SwiGlu(Tensor gate_up, Tensor out) = 0;
  // out[i] = x[rows[i]].
  virtual void GatherRows(Tensor x, absl::Span<const int> rows, Tensor out) = 0;

  // Attention of every sequence's rows over its cached segments and, causally, its own rows.
  //   qkv         [rows, (query_heads + 2 * kv_heads) * head_dim] queries | keys | values, not
  //               rotated; left as it is
  //   out         [rows, query_heads * head_dim]
  //   row_scores  float32 [kv_heads, max_step_rows]; receives each row's own score, by row
  // Scores (c[h, key] = sum over rows q of beta^(rows-1-q) * p[h, q, key], reduced over the query
  // heads h of a KV head; the method's factor 1 - beta is common to all and left out) are added to
  // the cached slots' scores after these have decayed by beta^rows; own keys start from 0.
  virtual void Attend(KvStorage& kv, int layer, absl::Span<const SequenceStep> steps, Tensor qkv,
                      Tensor out, Tensor row_scores) = 0;
  // Admits every sequence's rows to its cache as `steps` say. Comes after Attend of the same layer,
  // with the same qkv and row_scores.
  virtual void Admit(KvStorage& kv, int layer, absl::Span<const SequenceStep> steps, Tensor qkv,
                     Tensor row_scores) = 0;

  // Waits for everything enqueued, then copies x to `out` (x.elements() of them).
  virtual absl::Status CopyToHost(Tensor x, absl::Span<float> out) = 0;
  // Waits for everything enqueued and reports the first device fault.
  virtual absl::Status Synchronize() = 0;
};

}  // namespace weir

#endif  // WEIR_KERNELS_BACKEND_H_
