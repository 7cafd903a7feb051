#include "coordinator/request_metrics.h"

#include "absl/status/status.h"
#include "monitoring/buckets.h"

namespace weir {
namespace {

// When a caller who found the server full may try again: about the time that a short call takes.
constexpr char kTryAgainMilliseconds[] = "1000";

double SecondsBetween(RequestRecord::Clock::time_point from, RequestRecord::Clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

}  // namespace

RequestMetrics::RequestMetrics(Metrics* metrics)
    : requests_(metrics->AddCounters("weir_requests_total",
                                     "Calls of the public API that ended, by method and code.")),
      request_seconds_(metrics->AddHistograms("weir_request_seconds",
                                              "Time of a call from its start to its end.")),
      requests_running_(
          metrics->AddGauge("weir_requests_running", "Calls of the public API in progress.")),
      time_to_first_token_seconds_(metrics->AddHistogram(
          "weir_time_to_first_token_seconds",
          "Time from the start of a Generate to its first token.", WaitSecondsBuckets())),
      inter_token_seconds_(metrics->AddHistogram("weir_inter_token_seconds",
                                                 "Time between two tokens of a Generate.",
                                                 StepSecondsBuckets())),
      token_overhead_seconds_(metrics->AddHistogram(
          "weir_coordinator_token_overhead_seconds",
          "Time that a token of a Generate spends in the coordinator.", OverheadSecondsBuckets())),
      streamed_tokens_(
          metrics->AddCounter("weir_streamed_tokens_total", "Generated tokens sent to callers.")) {}

RequestRecord::RequestRecord(RequestMetrics* metrics, const std::string& method,
                             grpc::ServerContext* context)
    : metrics_(metrics), method_(method), context_(context), start_(Clock::now()) {
  metrics_->requests_running_.Increment();
}

RequestRecord::~RequestRecord() {
  metrics_->requests_running_.Decrement();
  const auto code = static_cast<absl::StatusCode>(code_);
  metrics_->requests_.Add({{"method", method_}, {"code", absl::StatusCodeToString(code)}})
      .Increment();
  metrics_->request_seconds_.Add({{"method", method_}}, CallSecondsBuckets())
      .Observe(SecondsBetween(start_, Clock::now()));
}

void RequestRecord::TokensStreamed(int tokens, Clock::time_point received) {
  metrics_->token_overhead_seconds_.Observe(SecondsBetween(received, Clock::now()));
  metrics_->streamed_tokens_.Increment(tokens);
  if (last_token_) {
    // Tokens that come together share the time since those before them.
    const double each = SecondsBetween(*last_token_, received) / tokens;
    for (int i = 0; i < tokens; ++i) metrics_->inter_token_seconds_.Observe(each);
  } else {
    metrics_->time_to_first_token_seconds_.Observe(SecondsBetween(start_, received));
  }
  last_token_ = received;
}

grpc::Status RequestRecord::End(const grpc::Status& status) {
  code_ = status.error_code();
  if (code_ == grpc::StatusCode::RESOURCE_EXHAUSTED) {
    context_->AddTrailingMetadata("grpc-retry-pushback-ms", kTryAgainMilliseconds);
  }
  return status;
}

}  // namespace weir
