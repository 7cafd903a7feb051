#include "cli/memory_picture.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace weir {
namespace {

// How many of `tokens` fall in each of `columns` equal parts of the session.
std::vector<int64_t> Bins(const v1::HeadMemory& head, int64_t tokens_seen, int columns) {
  std::vector<int64_t> bins(columns, 0);
  for (int64_t token : head.tokens()) {
    bins[std::min<int64_t>(columns - 1, token * columns / tokens_seen)]++;
  }
  return bins;
}

std::string Shades(const std::vector<int64_t>& kept, double tokens_per_column) {
  static constexpr const char* kShade[] = {" ", "·", "░", "▒", "▓", "█"};
  std::string line;
  for (int64_t count : kept) {
    // Any token shows; a full column is full; between them five shades, by the square root, because
    // older parts keep far fewer tokens than newer ones.
    const double part = std::min(1.0, count / tokens_per_column);
    const int shade =
        count == 0 ? 0 : std::clamp(static_cast<int>(1 + std::sqrt(part) * 4.5), 1, 5);
    line += kShade[shade];
  }
  return line;
}

const char* Colour(int sub_cache) {
  // Sinks dark; sub-caches from the newest to the oldest along one scale.
  static constexpr const char* kColours[] = {"#1f77b4", "#2ca02c", "#ff7f0e", "#d62728",
                                             "#9467bd", "#8c564b", "#e377c2", "#7f7f7f"};
  return sub_cache < 0 ? "#222222" : kColours[sub_cache % 8];
}

}  // namespace

std::string MemoryText(const std::vector<v1::InspectSessionResponse>& layers, int64_t tokens_seen,
                       int width) {
  if (tokens_seen == 0) return "The session has read nothing yet.\n";
  const int columns =
      std::max<int>(10, static_cast<int>(std::min<int64_t>(width - 12, tokens_seen)));
  const double tokens_per_column = static_cast<double>(tokens_seen) / columns;
  const bool one_layer = layers.size() == 1;
  std::string text;
  for (const v1::InspectSessionResponse& layer : layers) {
    std::vector<int64_t> sum(columns, 0);
    for (const v1::HeadMemory& head : layer.heads()) {
      const std::vector<int64_t> bins = Bins(head, tokens_seen, columns);
      for (int i = 0; i < columns; ++i) sum[i] += bins[i];
      if (one_layer) {
        absl::StrAppendFormat(&text, "head %3d  |%s|\n", head.kv_head(),
                              Shades(bins, tokens_per_column));
      }
    }
    if (!one_layer) {
      absl::StrAppendFormat(&text, "layer %3d |%s|\n", layer.layer(),
                            Shades(sum, tokens_per_column * layer.heads_size()));
    }
  }
  const std::string newest = absl::StrCat(tokens_seen - 1);
  absl::StrAppend(&text, std::string(10, ' '), "token 0",
                  std::string(std::max<int>(1, columns - 5 - static_cast<int>(newest.size())), ' '),
                  newest, "\n");
  return text;
}

std::string MemorySvg(const std::vector<v1::InspectSessionResponse>& layers,
                      const v1::Session& session) {
  constexpr int kWidth = 1200, kLeft = 70, kRight = 20, kTop = 56, kRow = 9, kGap = 4, kBottom = 36;
  const int64_t tokens_seen = std::max<int64_t>(1, session.tokens_seen());
  const double scale = static_cast<double>(kWidth - kLeft - kRight) / tokens_seen;
  int rows = 0;
  for (const auto& layer : layers) rows += layer.heads_size();
  const int height = kTop + rows * kRow + static_cast<int>(layers.size()) * kGap + kBottom;

  std::string svg = absl::StrFormat(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" font-family=\"sans-serif\" "
      "font-size=\"11\">\n<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n"
      "<text x=\"%d\" y=\"20\" font-size=\"14\">What session %s remembers: %d of %d tokens in "
      "every "
      "head</text>\n",
      kWidth, height, kLeft, session.id(), session.tokens_cached(), session.tokens_seen());
  int legend = kLeft;
  for (int ring = -1; ring < session.cascade().sub_caches(); ++ring) {
    absl::StrAppendFormat(&svg,
                          "<rect x=\"%d\" y=\"30\" width=\"10\" height=\"10\" fill=\"%s\"/>"
                          "<text x=\"%d\" y=\"39\">%s</text>\n",
                          legend, Colour(ring), legend + 14,
                          ring < 0 ? "sinks" : absl::StrCat("sub-cache ", ring));
    legend += 100;
  }
  int y = kTop;
  for (const auto& layer : layers) {
    absl::StrAppendFormat(&svg, "<text x=\"8\" y=\"%d\">layer %d</text>\n", y + kRow,
                          layer.layer());
    for (const v1::HeadMemory& head : layer.heads()) {
      // One path for each sub-cache: a tick for every token.
      std::map<int, std::string> paths;
      for (int i = 0; i < head.tokens_size(); ++i) {
        absl::StrAppendFormat(&paths[head.sub_caches(i)], "M%.1f %dv%d",
                              kLeft + (head.tokens(i) + 0.5) * scale, y, kRow - 1);
      }
      for (const auto& [ring, path] : paths) {
        absl::StrAppendFormat(&svg, "<path stroke=\"%s\" stroke-width=\"%.2f\" d=\"%s\"/>\n",
                              Colour(ring), std::clamp(scale, 0.3, 4.0), path);
      }
      y += kRow;
    }
    y += kGap;
  }
  absl::StrAppendFormat(&svg,
                        "<text x=\"%d\" y=\"%d\">token 0</text>"
                        "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%d</text>\n</svg>\n",
                        kLeft, y + 16, kWidth - kRight, y + 16, tokens_seen - 1);
  return svg;
}

}  // namespace weir
