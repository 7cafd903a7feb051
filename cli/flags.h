#ifndef WEIR_CLI_FLAGS_H_
#define WEIR_CLI_FLAGS_H_

#include <optional>
#include <string>
#include <thread>

#include "CLI/CLI.hpp"
#include "kernels/cascade_config.h"
#include "weir/v1/generation.pb.h"
#include "weir/v1/session.pb.h"

namespace weir {

// The cascade's flags, the same for every command. What the user does not give is not set.
struct CascadeFlags {
  std::optional<int> sinks;
  std::optional<int> slots;
  std::optional<int> sub_caches;
  std::optional<int> stride;
  std::optional<double> beta;
  std::optional<HeadReduction> head_reduction;

  void AddTo(CLI::App& app);
  // For a session on a server: only what was given.
  v1::CascadeSettings ToProto() const;
  // For a server: what was given over the built-in defaults.
  CascadeConfig ToConfig() const;
};

// What a model runs on.
struct DeviceFlags {
  std::string device = "cpu";
  std::optional<int> gpu;
  std::string scores = "fast";

  // In the group of flags that has `group` for a headline, or in the command's first one.
  void AddTo(CLI::App& app, const std::optional<std::string>& group = std::nullopt);
  bool exact_scores() const { return scores == "exact"; }
};

// Which server a client command talks to: one that runs, or one inside this process.
struct ConnectionFlags {
  std::string server;
  std::string model;
  int threads = 0;
  DeviceFlags device;

  void AddTo(CLI::App& app);
  // Only --server, for commands about what a running server has.
  CLI::Option* AddServerTo(CLI::App& app);
};

// --load-format: what is at --model.
void AddLoadFormat(CLI::App& app, std::string& load_format);

// How a generation chooses its tokens and when it ends.
struct GenerationFlags {
  int64_t max_tokens = 256;
  double temperature = 0;
  int top_k = 0;
  double top_p = 1;
  uint64_t seed = 0;

  void AddTo(CLI::App& app);
  void ApplyTo(v1::GenerateRequest& request) const;
};

// Threads for the matrix products when the user names none: all processors.
int DefaultThreads();

}  // namespace weir

#endif  // WEIR_CLI_FLAGS_H_
