#include "cli/flags.h"

#include <algorithm>
#include <map>

#include "absl/strings/str_cat.h"
#include "worker/engine/generate_limits.h"

namespace weir {

void CascadeFlags::AddTo(CLI::App& app) {
  const std::string group = "The session's cache";
  app.add_option("--sinks", sinks, "first tokens, kept for ever (64)")->group(group);
  app.add_option("--slots", slots, "tokens kept besides the sinks (1024)")->group(group);
  app.add_option("--sub-caches", sub_caches, "rings they are split into; 1: a window (4)")
      ->group(group);
  app.add_option("--stride", stride, "tokens of one prefill chunk (256)")->group(group);
  app.add_option("--beta", beta, "decay of attention scores (0.9999999)")->group(group);
  app.add_option("--head-reduction", head_reduction, "max or mean over query heads (max)")
      ->type_name("TEXT")
      ->transform(CLI::CheckedTransformer(std::map<std::string, HeadReduction>{
          {"max", HeadReduction::kMax}, {"mean", HeadReduction::kMean}}))
      ->option_text("max|mean")
      ->group(group);
}

v1::CascadeSettings CascadeFlags::ToProto() const {
  v1::CascadeSettings settings;
  if (sinks) settings.set_sinks(*sinks);
  if (slots) settings.set_slots(*slots);
  if (sub_caches) settings.set_sub_caches(*sub_caches);
  if (stride) settings.set_stride(*stride);
  if (beta) settings.set_beta(*beta);
  if (head_reduction) {
    settings.set_head_reduction(*head_reduction == HeadReduction::kMax ? v1::HEAD_REDUCTION_MAX
                                                                       : v1::HEAD_REDUCTION_MEAN);
  }
  return settings;
}

CascadeConfig CascadeFlags::ToConfig() const {
  CascadeConfig config;
  config.sinks = sinks.value_or(config.sinks);
  config.slots = slots.value_or(config.slots);
  config.sub_caches = sub_caches.value_or(config.sub_caches);
  config.stride = stride.value_or(config.stride);
  config.beta = beta.value_or(config.beta);
  config.head_reduction = head_reduction.value_or(config.head_reduction);
  return config;
}

void DeviceFlags::AddTo(CLI::App& app, const std::optional<std::string>& group) {
  CLI::Option* const options[] = {
      app.add_option("--device", device, "what computes: cpu, or cuda, an NVIDIA GPU (cpu)")
          ->check(CLI::IsMember({"cpu", "cuda"}))
          ->option_text("cpu|cuda"),
      app.add_option("--gpu", gpu, "with cuda: which GPU, of several workers the first one's (0)")
          ->check(CLI::Range(0, 1023))
          ->option_text("INT"),
      app.add_option("--scores", scores,
                     "with cuda: scores of a chunk's keys from the attention's own pass, or from "
                     "a second one (fast)")
          ->check(CLI::IsMember({"fast", "exact"}))
          ->option_text("fast|exact"),
  };
  if (!group.has_value()) return;
  for (CLI::Option* option : options) option->group(*group);
}

void ConnectionFlags::AddTo(CLI::App& app) {
  CLI::Option* server_option = AddServerTo(app);
  const std::string group = server_option->get_group();
  app.add_option("--model", model, "or: a model file, served inside this process for this run")
      ->type_name("PATH")
      ->excludes(server_option)
      ->group(group);
  app.add_option("--threads", threads, "with --model: threads (all processors)")
      ->check(CLI::Range(1, 1024))
      ->option_text("INT")
      ->group(group);
  device.AddTo(app, group);
}

CLI::Option* ConnectionFlags::AddServerTo(CLI::App& app) {
  return app.add_option("--server", server, "address of a Weir server (127.0.0.1:7411)")
      ->envname("WEIR_SERVER")
      ->type_name("ADDRESS")
      ->group("Where it runs");
}

void AddLoadFormat(CLI::App& app, std::string& load_format) {
  app.add_option("--load-format", load_format,
                 "gguf; dummy: the model is a config.json, its weights are random")
      ->type_name("TEXT")
      ->check(CLI::IsMember({"gguf", "dummy"}))
      ->option_text("gguf|dummy");
}

void GenerationFlags::AddTo(CLI::App& app) {
  const std::string group = "The answer";
  app.add_option("--max-tokens", max_tokens, "tokens at most; 0: no limit (256)")->group(group);
  app.add_option("--temperature", temperature, "0: always the likeliest token (0)")->group(group);
  app.add_option("--top-k", top_k,
                 absl::StrCat("only the K likeliest tokens, at most ", kMaxTopK, "; 0: all (0)"))
      ->check(CLI::Range(0, kMaxTopK))
      ->option_text("INT")
      ->group(group);
  app.add_option("--top-p", top_p, "only the likeliest tokens that make up P (1)")->group(group);
  app.add_option("--seed", seed, "same seed, same answer (0)")
      ->check([](const std::string& value) {
        return value.front() == '-' ? "Value " + value + " is below 0" : std::string();
      })
      ->option_text("UINT")
      ->group(group);
}

void GenerationFlags::ApplyTo(v1::GenerateRequest& request) const {
  request.set_max_tokens(max_tokens);
  v1::SamplingSettings& sampling = *request.mutable_sampling();
  sampling.set_temperature(temperature);
  sampling.set_top_k(top_k);
  sampling.set_top_p(top_p);
  sampling.set_seed(seed);
}

int DefaultThreads() { return std::max(1u, std::thread::hardware_concurrency()); }

}  // namespace weir
