#ifndef WEIR_MONITORING_METRICS_H_
#define WEIR_MONITORING_METRICS_H_

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include <memory>
#include <string>

namespace weir {

// The metrics of one process: what it counts, in Prometheus' terms. A class that counts something
// declares its metrics where it counts them, once, at construction, and keeps the references:
//
//   explicit Scheduler(Metrics* metrics)
//       : steps_(metrics->AddCounter("weir_engine_steps_total", "Steps finished.")),
//         step_seconds_(metrics->AddHistogram("weir_engine_step_seconds", "Time of a step.",
//                                             StepSecondsBuckets())) {}
//   ...
//   steps_.Increment();
//
// Names: `weir_<what>_<unit>`, base units (seconds, bytes), counters end in `_total`. The help text
// is a sentence. References live as long as the Metrics. A name belongs to one kind of metric, and
// adding a metric that exists returns the same one, so an object that is made again goes on
// counting. Thread-safe; counting takes no lock, but for histograms (a short one of their own).
class Metrics {
 public:
  // `version` becomes a label of `weir_build_info`. Memory, CPU time, open files and start time of
  // the process are there from the start.
  explicit Metrics(const std::string& version);
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  // ---- A metric, with the labels given here ----
  prometheus::Counter& AddCounter(const std::string& name, const std::string& help,
                                  const prometheus::Labels& labels = {});
  prometheus::Gauge& AddGauge(const std::string& name, const std::string& help,
                              const prometheus::Labels& labels = {});
  // `buckets`: upper bounds, ascending; one for everything above is added.
  prometheus::Histogram& AddHistogram(const std::string& name, const std::string& help,
                                      const prometheus::Histogram::BucketBoundaries& buckets,
                                      const prometheus::Labels& labels = {});

  // ---- A family, whose metrics are made where their labels are known ----
  prometheus::Family<prometheus::Counter>& AddCounters(const std::string& name,
                                                       const std::string& help);
  prometheus::Family<prometheus::Gauge>& AddGauges(const std::string& name,
                                                   const std::string& help);
  prometheus::Family<prometheus::Histogram>& AddHistograms(const std::string& name,
                                                           const std::string& help);

  // The text that a scrape returns.
  std::string Serialize() const;

  // What MetricsServer serves: the metrics above, and those of the process.
  const std::shared_ptr<prometheus::Registry>& registry() const { return registry_; }
  const std::shared_ptr<prometheus::Collectable>& process() const { return process_; }

 private:
  std::shared_ptr<prometheus::Registry> registry_;
  std::shared_ptr<prometheus::Collectable> process_;
};

}  // namespace weir

#endif  // WEIR_MONITORING_METRICS_H_
