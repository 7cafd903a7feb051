#ifndef WEIR_MONITORING_PROCESS_METRICS_H_
#define WEIR_MONITORING_PROCESS_METRICS_H_

#include <prometheus/collectable.h>
#include <prometheus/metric_family.h>

#include <vector>

namespace weir {

// What the kernel knows of this process, under the names that all Prometheus clients use:
// process_resident_memory_bytes, process_virtual_memory_bytes, process_cpu_seconds_total,
// process_open_fds, process_max_fds, process_start_time_seconds. Read from /proc at every scrape; a
// value that cannot be read is left out. Thread-safe.
class ProcessMetrics : public prometheus::Collectable {
 public:
  std::vector<prometheus::MetricFamily> Collect() const override;
};

}  // namespace weir

#endif  // WEIR_MONITORING_PROCESS_METRICS_H_
