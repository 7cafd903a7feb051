// A Llama that reads through the cascading cache, written the slow and obvious way: the reference
// that the worker is judged by. It shares no code with it: plain loops, double precision, one
// thread, one query at a time, every key rotated anew at its position each time it is looked at.
//
// A session reads text in chunks. All queries of a chunk attend to the cache as it was before the
// chunk and, causally, to the chunk. What each key was given,
//
//   c[h, key] = sum over the chunk's queries q of beta^(C - 1 - q) * p[h, q, key]        (C: this
//   chunk's length)
//
// reduced over the query heads h of the KV head, is added to score * beta^C; then the chunk's
// tokens are admitted in order. The method has a factor 1 - beta before the sum, common to all
// scores; it is left out here, since scores are only ever compared with each other.

#ifndef WEIR_TESTS_TESTING_NAIVE_LLAMA_H_
#define WEIR_TESTS_TESTING_NAIVE_LLAMA_H_

#include <vector>

#include "tests/testing/naive_cascade.h"

namespace weir {

struct NaiveLlamaConfig {
  int layers = 0;
  int hidden = 0;
  int heads = 0;  // a multiple of kv_heads; query head h reads KV head h / (heads / kv_heads)
  int kv_heads = 0;
  int head_dim = 0;  // even
  int ffn = 0;
  int vocabulary = 0;
  double rope_base = 10000.0;
  double rms_epsilon = 1e-5;
};

// Row-major [rows, columns] of a product y = W x, in the order of Hugging Face checkpoints: RoPE
// turns dimension d of a head together with dimension d + head_dim / 2.
struct NaiveLlamaLayer {
  std::vector<double> attention_norm;  // [hidden]
  std::vector<double> query;           // [heads * head_dim, hidden]
  std::vector<double> key;             // [kv_heads * head_dim, hidden]
  std::vector<double> value;           // [kv_heads * head_dim, hidden]
  std::vector<double> output;          // [hidden, heads * head_dim]
  std::vector<double> ffn_norm;        // [hidden]
  std::vector<double> gate;            // [ffn, hidden]
  std::vector<double> up;              // [ffn, hidden]
  std::vector<double> down;            // [hidden, ffn]
};

struct NaiveLlamaModel {
  NaiveLlamaConfig config;
  std::vector<double> embedding;  // [vocabulary, hidden]
  std::vector<NaiveLlamaLayer> layers;
  std::vector<double> final_norm;  // [hidden]
  std::vector<double> classifier;  // [vocabulary, hidden]; empty: the embedding again
};

// One session. Not thread-safe.
class NaiveLlamaSession {
 public:
  // `model` must outlive the session.
  NaiveLlamaSession(const NaiveLlamaModel& model, const NaiveCascadeSettings& settings);

  // Reads `tokens`, cut at multiples of the stride from their own start, and returns the logits
  // that follow each of them, [tokens, vocabulary]. A decode step is an Append of one token.
  std::vector<std::vector<double>> Append(const std::vector<int>& tokens);

  // The cache of one KV head of one layer: which tokens are kept, and their scores.
  const NaiveCascade& cache(int layer, int kv_head) const { return caches_[layer][kv_head]; }

 private:
  std::vector<std::vector<double>> ReadChunk(const std::vector<int>& tokens);
  // Attention of one KV head's query heads: reads the rows of queries, keys and values that belong
  // to it and writes its columns of `mixed`, [chunk][heads * head_dim]; then updates the scores and
  // admits the chunk.
  void AttendAndAdmit(int layer, int kv_head, const std::vector<std::vector<double>>& queries,
                      const std::vector<std::vector<double>>& keys,
                      const std::vector<std::vector<double>>& values,
                      std::vector<std::vector<double>>& mixed);

  const NaiveLlamaModel& model_;
  NaiveCascadeSettings settings_;
  std::vector<std::vector<NaiveCascade>> caches_;  // [layers][kv_heads]
};

// ln of the softmax.
std::vector<double> NaiveLogSoftmax(const std::vector<double>& logits);

// Lengths of the chunks that `tokens` appended tokens are cut into.
std::vector<int> NaiveChunkLengths(int tokens, int stride);

}  // namespace weir

#endif  // WEIR_TESTS_TESTING_NAIVE_LLAMA_H_
