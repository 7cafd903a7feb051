#ifndef WEIR_MONITORING_METRICS_SERVER_H_
#define WEIR_MONITORING_METRICS_SERVER_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "monitoring/metrics.h"

namespace prometheus {
class Exposer;
}  // namespace prometheus

namespace weir {

// Serves a process' metrics over HTTP at /metrics, for Prometheus to scrape, until destroyed,
// which may take two seconds.
class MetricsServer {
 public:
  // `metrics` outlives the server. `address` is HOST:PORT; port 0 takes a free one. Errors as
  // CheckListenAddress tells them.
  static absl::StatusOr<std::unique_ptr<MetricsServer>> Start(const Metrics& metrics,
                                                              const std::string& address);
  ~MetricsServer();
  MetricsServer(const MetricsServer&) = delete;
  MetricsServer& operator=(const MetricsServer&) = delete;

  // The port that is listened on.
  int port() const { return port_; }

 private:
  MetricsServer(std::unique_ptr<prometheus::Exposer> exposer, int port);

  const std::unique_ptr<prometheus::Exposer> exposer_;
  const int port_;
};

}  // namespace weir

#endif  // WEIR_MONITORING_METRICS_SERVER_H_
