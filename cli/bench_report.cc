#include "cli/bench_report.h"

#include <iostream>

#include "absl/strings/str_format.h"
#include "cli/terminal.h"

namespace weir {

void BenchReport::PrintLine(nlohmann::ordered_json line) {
  line["tensor_parallel"] = model_.tensor_parallel;
  std::cout << line.dump() << std::endl;
}

void BenchReport::PrintRow(const std::string& head, const std::string& row) {
  if (head != head_) std::cout << "\n" << head << "\n";
  head_ = head;
  std::cout << row << std::endl;
}

void BenchReport::Add(const BenchModel& model) {
  model_ = model;
  if (json_) {
    PrintLine({{"measurement", "model"},
               {"model", model.name},
               {"device", model.device},
               {"load_s", model.load_s},
               {"session_bytes", model.session_bytes},
               {"max_sessions", model.max_sessions},
               {"sinks", model.cascade.sinks},
               {"slots", model.cascade.slots},
               {"sub_caches", model.cascade.sub_caches},
               {"stride", model.cascade.stride}});
    return;
  }
  std::cout
      << absl::StrFormat(
             "%s on %d x %s, loaded in %.2f s\nroom for %d sessions of %s: %d sinks and %d slots "
             "in %d sub-caches each, stride %d",
             model.name, model.tensor_parallel, model.device, model.load_s, model.max_sessions,
             Bytes(model.session_bytes), model.cascade.sinks, model.cascade.slots,
             model.cascade.sub_caches, model.cascade.stride)
      << std::endl;
}

void BenchReport::Add(const BenchFit& fit) {
  if (json_) {
    PrintLine(
        {{"measurement", "fit"}, {"sessions", fit.sessions}, {"session_bytes", fit.session_bytes}});
    return;
  }
  PrintRow(absl::StrFormat("%12s  %20s", "sessions fit", "memory of each"),
           absl::StrFormat("%12d  %20s", fit.sessions, Bytes(fit.session_bytes)));
}

void BenchReport::Add(const DepthSpeed& speed) {
  if (json_) {
    PrintLine({{"measurement", "depth"},
               {"tokens", speed.tokens},
               {"prefill_tokens_per_s", speed.prefill_tokens_per_s},
               {"decode_tokens_per_s", speed.decode_tokens_per_s},
               {"load_s", model_.load_s},
               {"device", model_.device}});
    return;
  }
  PrintRow(absl::StrFormat("%12s  %20s  %20s", "tokens", "prefill, tokens/s", "decode, tokens/s"),
           absl::StrFormat("%12d  %20.1f  %20.1f", speed.tokens, speed.prefill_tokens_per_s,
                           speed.decode_tokens_per_s));
}

void BenchReport::Add(const PromptSpeed& speed) {
  if (json_) {
    PrintLine({{"measurement", "prompt"},
               {"tokens", speed.tokens},
               {"first_token_s", speed.first_token_s},
               {"prefill_tokens_per_s", speed.prefill_tokens_per_s}});
    return;
  }
  PrintRow(absl::StrFormat("%12s  %20s  %20s", "prompt", "to first token, s", "prefill, tokens/s"),
           absl::StrFormat("%12d  %20.3f  %20.1f", speed.tokens, speed.first_token_s,
                           speed.prefill_tokens_per_s));
}

void BenchReport::Add(const BatchSpeed& speed) {
  if (json_) {
    PrintLine({{"measurement", "batch"},
               {"sessions", speed.sessions},
               {"depth", speed.depth},
               {"step_ms", speed.step_ms},
               {"tokens_per_s", speed.tokens_per_s},
               {"host_us_per_step", speed.host_us_per_step}});
    return;
  }
  PrintRow(absl::StrFormat("%12s  %20s  %20s  %20s  %20s", "sessions", "tokens read by each",
                           "decode, ms/step", "decode, tokens/s", "of it host, us/step"),
           absl::StrFormat("%12d  %20d  %20.3f  %20.1f  %20.1f", speed.sessions, speed.depth,
                           speed.step_ms, speed.tokens_per_s, speed.host_us_per_step));
}

void BenchReport::Add(const LongSessionSpeed& speed) {
  if (json_) {
    PrintLine({{"measurement", "long_session"},
               {"tokens", speed.tokens},
               {"prefill_tokens_per_s", speed.prefill_tokens_per_s},
               {"before_ms", speed.before_ms},
               {"young_ms", speed.young_ms},
               {"old_ms", speed.old_ms},
               {"ratio", speed.ratio}});
    return;
  }
  const std::string head = absl::StrFormat("%12s  %20s  %20s  %20s", "tokens", "prefill, tokens/s",
                                           "between tokens, ms", "to a young session's");
  const int young = model_.cascade.total_slots() + kYoungTokens;
  PrintRow(head, absl::StrFormat("%12d  %20s  %20.3f", young, "(before)", speed.before_ms));
  PrintRow(head, absl::StrFormat("%12d  %20s  %20.3f", young, "(in turns)", speed.young_ms));
  PrintRow(head, absl::StrFormat("%12d  %20.1f  %20.3f  %20.3f", speed.tokens,
                                 speed.prefill_tokens_per_s, speed.old_ms, speed.ratio));
}

}  // namespace weir
