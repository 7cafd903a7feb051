#ifndef WEIR_WORKER_ENGINE_HEAD_MEMORY_CODEC_H_
#define WEIR_WORKER_ENGINE_HEAD_MEMORY_CODEC_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "worker/engine/engine.h"

namespace weir {

// The bytes in which ranks send their heads' memories to the leader, and back. Little-endian; of
// one group of processes of one version.
std::string SerializeHeadMemories(absl::Span<const HeadMemory> heads);

// INTERNAL for bytes that SerializeHeadMemories did not write.
absl::StatusOr<std::vector<HeadMemory>> ParseHeadMemories(absl::string_view bytes);

}  // namespace weir

#endif  // WEIR_WORKER_ENGINE_HEAD_MEMORY_CODEC_H_
