#ifndef WEIR_COORDINATOR_REQUEST_METRICS_H_
#define WEIR_COORDINATOR_REQUEST_METRICS_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/status.h>

#include <chrono>
#include <optional>
#include <string>

#include "monitoring/metrics.h"

namespace weir {

// What callers see of the public API, counted where it is served. Thread-safe.
class RequestMetrics {
 public:
  // `metrics` outlives it.
  explicit RequestMetrics(Metrics* metrics);

 private:
  friend class RequestRecord;

  prometheus::Family<prometheus::Counter>& requests_;
  prometheus::Family<prometheus::Histogram>& request_seconds_;
  prometheus::Gauge& requests_running_;
  prometheus::Histogram& time_to_first_token_seconds_;
  prometheus::Histogram& inter_token_seconds_;
  prometheus::Histogram& token_overhead_seconds_;
  prometheus::Counter& streamed_tokens_;
};

// One call of the public API, from its start to End. One thread.
class RequestRecord {
 public:
  using Clock = std::chrono::steady_clock;

  // `method` is the RPC's name, such as "Generate"; `context` is the call's.
  RequestRecord(RequestMetrics* metrics, const std::string& method, grpc::ServerContext* context);
  ~RequestRecord();
  RequestRecord(const RequestRecord&) = delete;
  RequestRecord& operator=(const RequestRecord&) = delete;

  // Generated tokens, at least one, came from the leader at `received` and are with the caller now.
  void TokensStreamed(int tokens, Clock::time_point received);

  // Notes how the call ended, and returns that. A caller who found the server full is told when to
  // try again, in gRPC's own trailing metadata for it, `grpc-retry-pushback-ms`.
  grpc::Status End(const grpc::Status& status);

 private:
  RequestMetrics* const metrics_;
  const std::string method_;
  grpc::ServerContext* const context_;
  const Clock::time_point start_;
  std::optional<Clock::time_point> last_token_;
  // A call that is abandoned without End has been cancelled.
  grpc::StatusCode code_ = grpc::StatusCode::CANCELLED;
};

}  // namespace weir

#endif  // WEIR_COORDINATOR_REQUEST_METRICS_H_
