#ifndef WEIR_CLI_MEMORY_PICTURE_H_
#define WEIR_CLI_MEMORY_PICTURE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "weir/v1/session.pb.h"

namespace weir {

// Pictures of what a session remembers: one line for every KV head, the session's tokens from left
// (oldest) to right (newest), darker where more of them are still in the cache.

// For a terminal `width` columns wide; one line for each layer (its heads together), or for each
// head when there is one layer only.
std::string MemoryText(const std::vector<v1::InspectSessionResponse>& layers, int64_t tokens_seen,
                       int width);

// As an SVG document; a line for every head of every layer, coloured by sub-cache.
std::string MemorySvg(const std::vector<v1::InspectSessionResponse>& layers,
                      const v1::Session& session);

}  // namespace weir

#endif  // WEIR_CLI_MEMORY_PICTURE_H_
