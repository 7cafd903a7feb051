#include "monitoring/process_metrics.h"

#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <string>
#include <system_error>
#include <utility>

namespace weir {
namespace {

void Append(const std::string& name, const std::string& help, prometheus::MetricType type,
            double value, std::vector<prometheus::MetricFamily>* families) {
  prometheus::ClientMetric metric;
  if (type == prometheus::MetricType::Counter) {
    metric.counter.value = value;
  } else {
    metric.gauge.value = value;
  }
  families->push_back({name, help, type, {std::move(metric)}});
}

// Seconds from the machine's start to this process', and the time of the machine's start.
bool ReadStartTime(double* seconds) {
  std::ifstream stat("/proc/self/stat");
  const std::string line((std::istreambuf_iterator<char>(stat)), std::istreambuf_iterator<char>());
  // Field 2, the command, may contain spaces and parentheses: count from its last parenthesis.
  const size_t command_end = line.rfind(')');
  if (command_end == std::string::npos) return false;
  size_t field_start = command_end + 1;
  for (int field = 3; field <= 22; ++field) {
    field_start = line.find_first_not_of(' ', field_start);
    if (field_start == std::string::npos) return false;
    if (field < 22) field_start = line.find(' ', field_start);
    if (field_start == std::string::npos) return false;
  }
  const double ticks = std::strtod(line.c_str() + field_start, nullptr);

  std::ifstream machine("/proc/stat");
  std::string key;
  while (machine >> key) {
    if (key == "btime") {
      double boot = 0;
      if (!(machine >> boot)) return false;
      *seconds = boot + ticks / static_cast<double>(sysconf(_SC_CLK_TCK));
      return true;
    }
    machine.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
  }
  return false;
}

}  // namespace

std::vector<prometheus::MetricFamily> ProcessMetrics::Collect() const {
  using prometheus::MetricType;
  std::vector<prometheus::MetricFamily> families;

  std::ifstream statm("/proc/self/statm");
  double virtual_pages = 0;
  double resident_pages = 0;
  if (statm >> virtual_pages >> resident_pages) {
    const double page_bytes = static_cast<double>(sysconf(_SC_PAGESIZE));
    Append("process_resident_memory_bytes", "Resident memory of the process.", MetricType::Gauge,
           resident_pages * page_bytes, &families);
    Append("process_virtual_memory_bytes", "Virtual memory of the process.", MetricType::Gauge,
           virtual_pages * page_bytes, &families);
  }

  rusage usage;
  if (getrusage(RUSAGE_SELF, &usage) == 0) {
    const auto seconds = [](const timeval& time) {
      return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
    };
    Append("process_cpu_seconds_total", "CPU time spent by the process, in user and system mode.",
           MetricType::Counter, seconds(usage.ru_utime) + seconds(usage.ru_stime), &families);
  }

  std::error_code error;
  const std::filesystem::directory_iterator files("/proc/self/fd", error);
  if (!error) {
    Append("process_open_fds", "Files that the process has open.", MetricType::Gauge,
           static_cast<double>(std::distance(begin(files), end(files))), &families);
  }
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    Append("process_max_fds", "Files that the process may have open.", MetricType::Gauge,
           static_cast<double>(limit.rlim_cur), &families);
  }

  double start = 0;
  if (ReadStartTime(&start)) {
    Append("process_start_time_seconds", "When the process started, in seconds since 1970.",
           MetricType::Gauge, start, &families);
  }
  return families;
}

}  // namespace weir
