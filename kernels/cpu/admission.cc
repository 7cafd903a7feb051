#include "kernels/cpu/admission.h"

#include <algorithm>
#include <cassert>
#include <cstdint>

#include "kernels/cascade_policy.h"

namespace weir {
namespace {

// Where one key or value is: element i at data[i * stride].
struct KeyView {
  float* data;
  int64_t stride;
};

KeyView KeyOf(const HeadSlots& slots, int slot, int head_dim) {
  return {slots.keys + int64_t{slot / kTileLanes} * kTileLanes * head_dim + slot % kTileLanes,
          kTileLanes};
}

// Writes `from` rotated from angle index `from_rotation` to `to_rotation`.
void RotateKey(const RopeTable& rope, const float* from, int64_t from_stride, int from_rotation,
               int to_rotation, KeyView to) {
  const int half = rope.head_dim / 2;
  const float* from_cos = rope.cos.data() + int64_t{from_rotation} * half;
  const float* from_sin = rope.sin.data() + int64_t{from_rotation} * half;
  const float* to_cos = rope.cos.data() + int64_t{to_rotation} * half;
  const float* to_sin = rope.sin.data() + int64_t{to_rotation} * half;
  for (int i = 0; i < half; ++i) {
    const float cos = to_cos[i] * from_cos[i] + to_sin[i] * from_sin[i];
    const float sin = to_sin[i] * from_cos[i] - to_cos[i] * from_sin[i];
    const float a = from[i * from_stride];
    const float b = from[(i + half) * from_stride];
    to.data[i * to.stride] = a * cos - b * sin;
    to.data[(i + half) * to.stride] = b * cos + a * sin;
  }
}

}  // namespace

void AdmissionKernel::Choose(const HeadSlots& slots, const SequenceStep& step,
                             const float* row_scores, HeadScratch& scratch) {
  scratch.moves.clear();
  scratch.level_begin.clear();
  scratch.arrivals.clear();
  const auto row_source = [&](int row) { return Source{-1, row, 0, row_scores[row]}; };
  for (int row = 0; row < step.sink_rows; ++row) {
    const int slot = step.first_sink_slot + row;
    scratch.moves.push_back({row_source(row), slot, slot});
  }
  for (int row = step.sink_rows; row < step.rows; ++row) {
    scratch.arrivals.push_back(row_source(row));
  }

  const int ring_slots = step.cascade.ring_slots();
  if (scratch.swaps.size() < step.rings.size()) scratch.swaps.resize(step.rings.size());
  for (size_t level = 0; level < step.rings.size(); ++level) {
    const RingAdmission& ring = step.rings[level];
    assert(static_cast<int>(scratch.arrivals.size()) == ring.arrivals);
    const int first_slot = step.cascade.sinks + static_cast<int>(level) * ring_slots;
    scratch.level_begin.push_back(scratch.moves.size());

    const auto present = [&](int entry) {
      const int rotation = (ring.head + entry) % ring_slots;
      const int slot = first_slot + rotation;
      return Source{slot, -1, rotation, slots.scores[slot]};
    };
    const auto fold = [&](Source incumbent, int begin, int end) {
      for (int i = begin; i < end; ++i) {
        if (!ChallengerWins(scratch.arrivals[i].score, incumbent.score)) continue;
        incumbent = scratch.arrivals[i];
        ++scratch.swaps[level];
      }
      return incumbent;
    };

    const int challengers = ring.run_begin.empty() ? ring.arrivals : ring.run_begin.front();
    Source newest = {};
    if (ring.size > 0) {
      newest = fold(present(ring.size - 1), 0, challengers);
    } else {
      assert(challengers == 0);
    }
    scratch.winners.clear();
    for (int k = 0; k < ring.new_entries(); ++k) {
      scratch.winners.push_back(
          fold(scratch.arrivals[ring.run_begin[k]], ring.run_begin[k] + 1, ring.run_begin[k + 1]));
    }

    const auto entry = [&](int index) {
      if (index >= ring.size) return scratch.winners[index - ring.size];
      return index == ring.size - 1 ? newest : present(index);
    };
    scratch.evicted.clear();
    for (int index = 0; index < ring.evicted; ++index) scratch.evicted.push_back(entry(index));
    // Older entries stay where they are.
    const int entries = ring.size + std::max(0, ring.new_entries());
    for (int index = std::max(ring.evicted, ring.size - 1); index < entries; ++index) {
      if (index < 0) continue;
      const Source source = entry(index);
      const int rotation = (ring.head + index) % ring_slots;
      if (source.slot != first_slot + rotation) {
        scratch.moves.push_back({source, first_slot + rotation, rotation});
      }
    }
    scratch.arrivals.swap(scratch.evicted);
  }
  scratch.level_begin.push_back(scratch.moves.size());
}

void AdmissionKernel::AdmitHead(const CpuKvStorage& kv, int layer, int kv_head,
                                const SequenceStep& step, Tensor qkv, const float* row_scores,
                                HeadScratch& scratch) {
  const KvShape& shape = kv.shape();
  const HeadSlots slots = kv.head(step.cache_slot, layer, kv_head);
  Choose(slots, step, row_scores, scratch);

  const int head_dim = shape.head_dim;
  const auto perform = [&](const Move& move) {
    const KeyView key = KeyOf(slots, move.slot, head_dim);
    float* value = slots.values + int64_t{move.slot} * kv.value_stride();
    slots.scores[move.slot] = move.from.score;
    if (move.from.slot >= 0) {
      const KeyView from = KeyOf(slots, move.from.slot, head_dim);
      RotateKey(kv.rope(), from.data, from.stride, move.from.rotation, move.rotation, key);
      std::copy_n(slots.values + int64_t{move.from.slot} * kv.value_stride(), head_dim, value);
      slots.tokens[move.slot] = slots.tokens[move.from.slot];
    } else {
      const float* row = qkv.f32() + int64_t{step.first_row + move.from.row} * qkv.cols;
      const float* from = row + int64_t{shape.query_heads + kv_head} * head_dim;
      RotateKey(kv.rope(), from, 1, 0, move.rotation, key);
      std::copy_n(from + int64_t{shape.kv_heads} * head_dim, head_dim, value);
      slots.tokens[move.slot] = step.first_token + move.from.row;
    }
  };
  for (size_t level = step.rings.size(); level-- > 0;) {
    for (size_t i = scratch.level_begin[level]; i < scratch.level_begin[level + 1]; ++i) {
      perform(scratch.moves[i]);
    }
  }
  for (int row = 0; row < step.sink_rows; ++row) perform(scratch.moves[row]);
}

void AdmissionKernel::Run(CpuKvStorage& kv, int layer, absl::Span<const SequenceStep> steps,
                          Tensor qkv, Tensor row_scores) {
  const int kv_heads = kv.shape().kv_heads;
  pool_.For(static_cast<int64_t>(steps.size()) * kv_heads, [&](int64_t item, int thread) {
    const SequenceStep& step = steps[item / kv_heads];
    const int kv_head = static_cast<int>(item % kv_heads);
    AdmitHead(kv, layer, kv_head, step, qkv,
              row_scores.f32() + kv_head * row_scores.cols + step.first_row, scratch_[thread]);
  });
  std::vector<int64_t>& swaps = kv.mutable_swaps();
  for (HeadScratch& scratch : scratch_) {
    if (swaps.size() < scratch.swaps.size()) swaps.resize(scratch.swaps.size());
    for (size_t level = 0; level < scratch.swaps.size(); ++level) {
      swaps[level] += scratch.swaps[level];
      scratch.swaps[level] = 0;
    }
  }
}

}  // namespace weir
