#include "tests/testing/smollm2_golden.h"

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "nlohmann/json.hpp"

namespace weir {

namespace {

// Relative to the runfiles, where `bazel test` starts a test, or to the repository's root.
constexpr char kFolder[] = "tests/testing/golden/";

std::string ReadFile(const std::string& name) {
  const std::string path = kFolder + name;
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    std::fprintf(stderr, "cannot read %s; run the test from the repository's root\n", path.c_str());
    std::abort();
  }
  std::ostringstream contents;
  contents << file.rdbuf();
  return contents.str();
}

}  // namespace

SmolLm2Golden LoadSmolLm2Golden() {
  const nlohmann::json json = nlohmann::json::parse(ReadFile("smollm2_logprobs.json"));
  SmolLm2Golden golden;
  golden.text = ReadFile(json.at("text"));
  golden.tokens = json.at("tokens").get<std::vector<int>>();
  golden.logprobs = json.at("logprobs").get<std::vector<double>>();
  golden.top_position = json.at("top").at("position");
  golden.top_tokens = json.at("top").at("tokens").get<std::vector<int>>();
  golden.top_logprobs = json.at("top").at("logprobs").get<std::vector<double>>();
  for (const nlohmann::json& one : json.at("greedy")) {
    golden.greedy.push_back({
        .prompt = one.at("prompt"),
        .prompt_tokens = one.at("prompt_tokens").get<std::vector<int>>(),
        .continuation = one.at("continuation"),
        .continuation_tokens = one.at("continuation_tokens").get<std::vector<int>>(),
        .logprobs = one.at("logprobs").get<std::vector<double>>(),
        .margins = one.at("margins").get<std::vector<double>>(),
    });
  }
  return golden;
}

}  // namespace weir
