#ifndef WEIR_KERNELS_KV_STORAGE_H_
#define WEIR_KERNELS_KV_STORAGE_H_

#include <cstdint>
#include <vector>

namespace weir {

// Everything that sizes the caches of one rank. Allocated once, at start-up.
struct KvShape {
  int layers = 0;
  int kv_heads = 0;     // of this rank
  int query_heads = 0;  // of this rank; a multiple of kv_heads
  int head_dim = 0;
  int sessions = 0;       // blocks of slots
  int slots = 0;          // sinks + sub-cache slots of one session, at most
  int max_step_rows = 0;  // rows of one step, all sequences together, at most
  int max_stride = 0;     // rows of one sequence in one step, at most
};

// What one KV head of one layer remembers of one session.
struct SlotContents {
  std::vector<int64_t> tokens;  // [slots] stream index; meaningless in slots never filled
  std::vector<float> scores;    // [slots]
};

// The device memory of all session caches on one rank: keys, values, scores and token indices of
// every layer, KV head and slot. Which slots are filled is not here: it follows from the sessions'
// counters (cache/). Not thread-safe; used by the engine's thread.
class KvStorage {
 public:
  virtual ~KvStorage() = default;
  virtual const KvShape& shape() const = 0;
  // Bytes of device memory held, a constant.
  virtual int64_t bytes() const = 0;
  // Device memory that one more session takes, its part of scratch memory included.
  virtual int64_t bytes_per_session() const = 0;
  // Challenges won at each sub-cache level so far: arrivals that were not accepted and took the
  // newest slot. All sessions, layers and heads. Waits for everything enqueued.
  virtual std::vector<int64_t> swaps() const = 0;
  // Copies out the slots [0, slots) of one session, layer and KV head.
  virtual SlotContents Read(int cache_slot, int layer, int kv_head) const = 0;
};

}  // namespace weir

#endif  // WEIR_KERNELS_KV_STORAGE_H_
