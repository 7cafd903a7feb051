#include "worker/engine/head_memory_codec.h"

#include <cstddef>
#include <cstdint>
#include <utility>

#include "absl/status/status.h"
#include "worker/model/byte_reader.h"

namespace weir {
namespace {

template <typename T>
void Put(const T* values, size_t count, std::string& out) {
  out.append(reinterpret_cast<const char*>(values), count * sizeof(T));
}

}  // namespace

std::string SerializeHeadMemories(absl::Span<const HeadMemory> heads) {
  std::string out;
  for (const HeadMemory& head : heads) {
    const int32_t kv_head = head.kv_head;
    const uint64_t count = head.tokens.size();
    Put(&kv_head, 1, out);
    Put(&count, 1, out);
    for (size_t i = 0; i < count; ++i) {
      const int32_t sub_cache = head.sub_caches[i];
      Put(&head.tokens[i], 1, out);
      Put(&head.scores[i], 1, out);
      Put(&sub_cache, 1, out);
    }
  }
  return out;
}

absl::StatusOr<std::vector<HeadMemory>> ParseHeadMemories(absl::string_view bytes) {
  ByteReader reader("head memories",
                    absl::MakeSpan(reinterpret_cast<const std::byte*>(bytes.data()), bytes.size()));
  std::vector<HeadMemory> heads;
  while (reader.ok() && reader.offset() < bytes.size()) {
    HeadMemory head;
    head.kv_head = reader.Read<int32_t>("KV head");
    const uint64_t count =
        reader.ReadCount(sizeof(int64_t) + sizeof(float) + sizeof(int32_t), "tokens");
    for (uint64_t i = 0; i < count; ++i) {
      head.tokens.push_back(reader.Read<int64_t>("token"));
      head.scores.push_back(reader.Read<float>("score"));
      head.sub_caches.push_back(reader.Read<int32_t>("sub-cache"));
    }
    heads.push_back(std::move(head));
  }
  if (!reader.ok()) return absl::InternalError(reader.status().message());
  return heads;
}

}  // namespace weir
