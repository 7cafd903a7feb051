#ifndef WEIR_CLI_WORKER_FLAGS_H_
#define WEIR_CLI_WORKER_FLAGS_H_

#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "cli/flags.h"
#include "worker/service/worker_server.h"

namespace weir {

// What a worker is told about its model and its memory, by `weir worker` and `weir serve`.
struct WorkerFlags {
  std::string model;
  std::string load_format = "gguf";
  int tensor_parallel = 1;
  int threads = 0;
  int max_sessions = 8;
  int token_gap_ms = 50;
  DeviceFlags device;
  CascadeFlags cascade;

  void AddTo(CLI::App& app);
  // These flags, the rest as it is by default.
  WorkerOptions ToOptions() const;
  // `worker` and these flags, for the worker process of a rank on this host.
  std::vector<std::string> ToArguments(int rank) const;
  // --threads, or this worker's share of the processors if all workers are on this host.
  int ThreadsOrShare() const;
};

}  // namespace weir

#endif  // WEIR_CLI_WORKER_FLAGS_H_
