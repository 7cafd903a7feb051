#include "tests/testing/smollm2_golden.h"

#include <fstream>
#include <sstream>

#include "nlohmann/json.hpp"
#include "tests/testing/runfiles.h"

namespace weir {

namespace {

std::string ReadFile(const std::string& name) {
  std::ifstream file(Runfile("weir/tests/testing/golden/" + name), std::ios::binary);
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
