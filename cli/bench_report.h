#ifndef WEIR_CLI_BENCH_REPORT_H_
#define WEIR_CLI_BENCH_REPORT_H_

#include <cstdint>
#include <string>

#include "cli/bench_measurements.h"
#include "kernels/cascade_config.h"
#include "nlohmann/json.hpp"

namespace weir {

// What was loaded to be measured.
struct BenchModel {
  std::string name;
  std::string device;  // of each rank
  int tensor_parallel = 1;
  double load_s = 0;
  int64_t session_bytes = 0;  // of one session's cache, on all ranks
  int max_sessions = 0;
  CascadeConfig cascade;
};

// How many sessions the device has memory for, beside the model.
struct BenchFit {
  int64_t sessions = 0;
  int64_t session_bytes = 0;
};

// Prints measurements on standard output as they are made: a table for each kind, or one JSON
// object a line, told apart by "measurement"; all have "tensor_parallel".
class BenchReport {
 public:
  explicit BenchReport(bool json) : json_(json) {}

  // Comes before the others.
  void Add(const BenchModel& model);
  void Add(const BenchFit& fit);
  void Add(const DepthSpeed& speed);
  void Add(const PromptSpeed& speed);
  void Add(const BatchSpeed& speed);
  void Add(const LongSessionSpeed& speed);

 private:
  void PrintLine(nlohmann::ordered_json line);
  // A row of the table with this head, which is printed above the first row.
  void PrintRow(const std::string& head, const std::string& row);

  const bool json_;
  BenchModel model_;
  std::string head_;  // of the table so far
};

}  // namespace weir

#endif  // WEIR_CLI_BENCH_REPORT_H_
