#ifndef WEIR_KERNELS_CASCADE_CONFIG_H_
#define WEIR_KERNELS_CASCADE_CONFIG_H_

namespace weir {

// How the attention scores of the query heads that share one KV head become one score.
enum class HeadReduction { kMax, kMean };

// The settings of one session's cascading KV cache (Willette et al., "Training-Free Exponential
// Context Extension via Cascading KV Cache", arXiv 2406.17808). Plain data; `cache/` validates it.
struct CascadeConfig {
  // First tokens of the session, kept for ever.
  int sinks = 64;
  // Tokens kept besides the sinks, all sub-caches together. `sub_caches` divides it.
  int slots = 1024;
  // Rings of `slots / sub_caches` slots each; 1 is a sliding window with sinks (StreamingLLM).
  int sub_caches = 4;
  // Tokens of one prefill chunk.
  int stride = 256;
  // Decay of a key's attention score, per token.
  double beta = 0.9999999;
  HeadReduction head_reduction = HeadReduction::kMax;

  int ring_slots() const { return slots / sub_caches; }
  int total_slots() const { return sinks + slots; }

  friend bool operator==(const CascadeConfig&, const CascadeConfig&) = default;
};

}  // namespace weir

#endif  // WEIR_KERNELS_CASCADE_CONFIG_H_
