#include "worker/engine/step_digest.h"

#include <bit>
#include <cstddef>
#include <string>

#include "worker/model/fnv1a.h"

namespace weir {
namespace {

// Lists go with their length: elements of one cannot pass for those of the next. Structures are
// taken apart by name, so that a field that is added to one does not compile until it is here.

void Add(const CascadeConfig& cascade, Fnv1a& digest) {
  const auto& [sinks, slots, sub_caches, stride, beta, head_reduction] = cascade;
  digest.Add(sinks);
  digest.Add(slots);
  digest.Add(sub_caches);
  digest.Add(stride);
  digest.Add(std::bit_cast<uint64_t>(beta));
  digest.Add(static_cast<uint64_t>(head_reduction));
}

void Add(const KeySegment& segment, Fnv1a& digest) {
  const auto& [first_slot, slot_count, query_rotation] = segment;
  digest.Add(first_slot);
  digest.Add(slot_count);
  digest.Add(query_rotation);
}

void Add(const RingAdmission& ring, Fnv1a& digest) {
  const auto& [size, head, arrivals, evicted, run_begin] = ring;
  digest.Add(size);
  digest.Add(head);
  digest.Add(arrivals);
  digest.Add(evicted);
  digest.Add(run_begin.size());
  for (const int arrival : run_begin) digest.Add(arrival);
}

void Add(const SequenceStep& sequence, Fnv1a& digest) {
  const auto& [cache_slot, first_row, rows, first_token, cascade, segments, first_sink_slot,
               sink_rows, rings] = sequence;
  digest.Add(cache_slot);
  digest.Add(first_row);
  digest.Add(rows);
  digest.Add(first_token);
  Add(cascade, digest);
  digest.Add(segments.size());
  for (const KeySegment& segment : segments) Add(segment, digest);
  digest.Add(first_sink_slot);
  digest.Add(sink_rows);
  digest.Add(rings.size());
  for (const RingAdmission& ring : rings) Add(ring, digest);
}

}  // namespace

uint64_t DigestOf(const DerivedStep& step) {
  Fnv1a digest;
  const std::string plan = SerializeStepPlan(step.plan);
  digest.Add(plan.size());
  digest.Add(absl::MakeConstSpan(reinterpret_cast<const std::byte*>(plan.data()), plan.size()));
  digest.Add(step.decodes.size());
  for (const SequenceStep& sequence : step.decodes) Add(sequence, digest);
  digest.Add(step.chunk != nullptr);
  if (step.chunk != nullptr) Add(*step.chunk, digest);
  digest.Add(step.chunk_layers_left);
  return digest.value();
}

}  // namespace weir
