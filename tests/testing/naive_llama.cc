#include "tests/testing/naive_llama.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <utility>

namespace weir {

namespace {

using Vector = std::vector<double>;

void Require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "NaiveLlama: %s\n", what);
  std::abort();
}

Vector Product(const Vector& matrix, const Vector& x) {
  Require(!x.empty() && matrix.size() % x.size() == 0, "a matrix does not fit its input");
  Vector y(matrix.size() / x.size());
  for (size_t row = 0; row < y.size(); ++row) {
    const double* weights = &matrix[row * x.size()];
    double sum = 0.0;
    for (size_t column = 0; column < x.size(); ++column) sum += weights[column] * x[column];
    y[row] = sum;
  }
  return y;
}

std::vector<Vector> Products(const Vector& matrix, const std::vector<Vector>& rows) {
  std::vector<Vector> results;
  for (const Vector& x : rows) results.push_back(Product(matrix, x));
  return results;
}

Vector RmsNorm(const Vector& x, const Vector& weight, double epsilon) {
  double squares = 0.0;
  for (double value : x) squares += value * value;
  const double scale = 1.0 / std::sqrt(squares / x.size() + epsilon);
  Vector y(x.size());
  for (size_t i = 0; i < x.size(); ++i) y[i] = x[i] * scale * weight[i];
  return y;
}

// RoPE: turns (x[d], x[d + half]) by position / base^(2d / head_dim).
Vector Rotate(const Vector& x, int position, double base) {
  const size_t half = x.size() / 2;
  Vector y(x.size());
  for (size_t d = 0; d < half; ++d) {
    const double angle = position * std::pow(base, -2.0 * d / x.size());
    y[d] = x[d] * std::cos(angle) - x[d + half] * std::sin(angle);
    y[d + half] = x[d + half] * std::cos(angle) + x[d] * std::sin(angle);
  }
  return y;
}

Vector Head(const Vector& row, int head, int head_dim) {
  return Vector(row.begin() + head * head_dim, row.begin() + (head + 1) * head_dim);
}

double Dot(const Vector& a, const Vector& b) {
  double sum = 0.0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

void Softmax(Vector& x) {
  const double largest = *std::max_element(x.begin(), x.end());
  double sum = 0.0;
  for (double& value : x) sum += value = std::exp(value - largest);
  for (double& value : x) value /= sum;
}

void AddTo(std::vector<Vector>& rows, const std::vector<Vector>& others) {
  for (size_t t = 0; t < rows.size(); ++t) {
    for (size_t i = 0; i < rows[t].size(); ++i) rows[t][i] += others[t][i];
  }
}

}  // namespace

NaiveLlamaSession::NaiveLlamaSession(const NaiveLlamaModel& model,
                                     const NaiveCascadeSettings& settings)
    : model_(model), settings_(settings) {
  const NaiveLlamaConfig& config = model.config;
  Require(static_cast<int>(model.layers.size()) == config.layers, "layers are missing");
  Require(config.heads % config.kv_heads == 0, "kv_heads must divide heads");
  Require(config.head_dim % 2 == 0, "head_dim must be even");
  Require(settings.stride >= 1, "the stride must be positive");
  caches_.assign(config.layers, std::vector<NaiveCascade>(config.kv_heads, NaiveCascade(settings)));
}

std::vector<Vector> NaiveLlamaSession::Append(const std::vector<int>& tokens) {
  std::vector<Vector> logits;
  auto start = tokens.begin();
  for (int length : NaiveChunkLengths(tokens.size(), settings_.stride)) {
    for (Vector& row : ReadChunk(std::vector<int>(start, start + length))) {
      logits.push_back(std::move(row));
    }
    start += length;
  }
  return logits;
}

std::vector<Vector> NaiveLlamaSession::ReadChunk(const std::vector<int>& tokens) {
  const NaiveLlamaConfig& config = model_.config;
  const auto normalized = [&](const std::vector<Vector>& rows, const Vector& weight) {
    std::vector<Vector> results;
    for (const Vector& x : rows) results.push_back(RmsNorm(x, weight, config.rms_epsilon));
    return results;
  };

  std::vector<Vector> x;
  for (int token : tokens) {
    Require(token >= 0 && token < config.vocabulary, "a token is outside the vocabulary");
    const auto row = model_.embedding.begin() + static_cast<ptrdiff_t>(token) * config.hidden;
    x.emplace_back(row, row + config.hidden);
  }
  for (int l = 0; l < config.layers; ++l) {
    const NaiveLlamaLayer& layer = model_.layers[l];
    const std::vector<Vector> attention_input = normalized(x, layer.attention_norm);
    const std::vector<Vector> queries = Products(layer.query, attention_input);
    const std::vector<Vector> keys = Products(layer.key, attention_input);
    const std::vector<Vector> values = Products(layer.value, attention_input);
    std::vector<Vector> mixed(tokens.size(), Vector(config.heads * config.head_dim));
    for (int kv_head = 0; kv_head < config.kv_heads; ++kv_head) {
      AttendAndAdmit(l, kv_head, queries, keys, values, mixed);
    }
    AddTo(x, Products(layer.output, mixed));

    const std::vector<Vector> ffn_input = normalized(x, layer.ffn_norm);
    std::vector<Vector> gate = Products(layer.gate, ffn_input);
    const std::vector<Vector> up = Products(layer.up, ffn_input);
    for (size_t t = 0; t < gate.size(); ++t) {
      for (size_t i = 0; i < gate[t].size(); ++i) {
        const double silu = gate[t][i] / (1.0 + std::exp(-gate[t][i]));
        gate[t][i] = silu * up[t][i];
      }
    }
    AddTo(x, Products(layer.down, gate));
  }
  const Vector& classifier = model_.classifier.empty() ? model_.embedding : model_.classifier;
  return Products(classifier, normalized(x, model_.final_norm));
}

void NaiveLlamaSession::AttendAndAdmit(int layer, int kv_head, const std::vector<Vector>& queries,
                                       const std::vector<Vector>& keys,
                                       const std::vector<Vector>& values,
                                       std::vector<Vector>& mixed) {
  const NaiveLlamaConfig& config = model_.config;
  const int head_dim = config.head_dim;
  const int group = config.heads / config.kv_heads;
  const int chunk = keys.size();
  NaiveCascade& cache = caches_[layer][kv_head];

  // The chunk's own tokens, not yet admitted, stand after the cached ones.
  const std::vector<NaiveCachedToken*> cached = cache.ByPosition();
  std::vector<NaiveCachedToken> arrivals(chunk);
  for (int t = 0; t < chunk; ++t) {
    arrivals[t] = {.index = cache.tokens_seen() + t,
                   .score = 0.0,
                   .key = Head(keys[t], kv_head, head_dim),
                   .value = Head(values[t], kv_head, head_dim)};
  }
  std::vector<NaiveCachedToken*> seen = cached;
  for (NaiveCachedToken& arrival : arrivals) seen.push_back(&arrival);
  std::vector<Vector> rotated_keys;
  for (size_t position = 0; position < seen.size(); ++position) {
    rotated_keys.push_back(Rotate(seen[position]->key, position, config.rope_base));
  }

  std::vector<Vector> given(group, Vector(seen.size(), 0.0));  // c[h, key]
  for (int g = 0; g < group; ++g) {
    const int head = kv_head * group + g;
    for (int t = 0; t < chunk; ++t) {
      const int position = cached.size() + t;
      const Vector query = Rotate(Head(queries[t], head, head_dim), position, config.rope_base);
      Vector probabilities;
      for (int i = 0; i <= position; ++i) {
        probabilities.push_back(Dot(query, rotated_keys[i]) / std::sqrt(head_dim));
      }
      Softmax(probabilities);
      for (int i = 0; i <= position; ++i) {
        given[g][i] += std::pow(settings_.beta, chunk - 1 - t) * probabilities[i];
        for (int d = 0; d < head_dim; ++d) {
          mixed[t][head * head_dim + d] += probabilities[i] * seen[i]->value[d];
        }
      }
    }
  }

  for (size_t i = 0; i < seen.size(); ++i) {
    double reduced = given[0][i];
    for (int g = 1; g < group; ++g) {
      reduced = settings_.head_reduction == NaiveHeadReduction::kMax
                    ? std::max(reduced, given[g][i])
                    : reduced + given[g][i];
    }
    if (settings_.head_reduction == NaiveHeadReduction::kMean) reduced /= group;
    seen[i]->score = std::pow(settings_.beta, chunk) * seen[i]->score + reduced;
  }
  for (NaiveCachedToken& arrival : arrivals) cache.Admit(std::move(arrival));
}

Vector NaiveLogSoftmax(const Vector& logits) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0.0;
  for (double logit : logits) sum += std::exp(logit - largest);
  Vector result(logits.size());
  for (size_t i = 0; i < logits.size(); ++i) result[i] = logits[i] - largest - std::log(sum);
  return result;
}

std::vector<int> NaiveChunkLengths(int tokens, int stride) {
  std::vector<int> lengths;
  for (int start = 0; start < tokens; start += stride) {
    lengths.push_back(std::min(stride, tokens - start));
  }
  return lengths;
}

}  // namespace weir
