// `weir bench offline`, and models with random weights from the command line.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_split.h"
#include "nlohmann/json.hpp"
#include "tests/integration/child.h"
#include "tests/integration/small_model.h"
#include "tests/testing/small_config.h"

namespace weir {
namespace {

using ::testing::HasSubstr;

const std::string& ConfigPath() {
  static const std::string* const path = [] {
    auto* const name = new std::string(TestFile("config.json"));
    WriteConfig(*name);
    return name;
  }();
  return *path;
}

std::vector<std::string> SmallCascade() {
  return {"--sinks=4", "--slots=64", "--sub-caches=2", "--stride=16", "--threads=1"};
}

// `weir bench offline` of the small dummy model with these flags.
Outcome Bench(const std::vector<std::string>& more) {
  std::vector<std::string> arguments = {"bench", "offline", "--model=" + ConfigPath(),
                                        "--load-format=dummy"};
  for (const std::vector<std::string>& part : {SmallCascade(), more}) {
    arguments.insert(arguments.end(), part.begin(), part.end());
  }
  return RunWeir(arguments);
}

std::vector<nlohmann::json> JsonLines(const Outcome& outcome) {
  EXPECT_EQ(outcome.exit_code, 0) << outcome.output;
  std::vector<nlohmann::json> lines;
  for (absl::string_view line : absl::StrSplit(outcome.output, '\n', absl::SkipEmpty())) {
    lines.push_back(nlohmann::json::parse(std::string(line), nullptr, false));
    EXPECT_FALSE(lines.back().is_discarded()) << line;
  }
  return lines;
}

TEST(BenchTest, MeasuresWhatIsAskedFor) {
  const std::vector<nlohmann::json> lines =
      JsonLines(Bench({"--fit", "--depths", "20", "--prompts", "33", "70", "--batches", "1", "3",
                       "--depth=50", "--long-session=2000", "--steps=16", "--json"}));
  ASSERT_EQ(lines.size(), 8u);
  const nlohmann::json& model = lines[0];
  EXPECT_EQ(model["measurement"], "model");
  EXPECT_THAT(model["model"].get<std::string>(), HasSubstr("dummy"));
  EXPECT_THAT(model["device"].get<std::string>(), HasSubstr("cpu"));
  EXPECT_GT(model["load_s"].get<double>(), 0);
  // 3 layers, 2 KV heads, 68 slots: keys and values of 32 floats, a score and a token.
  EXPECT_EQ(model["session_bytes"], 3 * 2 * 68 * (2 * 32 * 4 + 12));
  EXPECT_EQ(model["max_sessions"], 3);
  EXPECT_EQ(model["slots"], 64);

  EXPECT_EQ(lines[1]["measurement"], "fit");
  EXPECT_GT(lines[1]["sessions"], 3);
  EXPECT_EQ(lines[2]["measurement"], "depth");
  EXPECT_EQ(lines[2]["tokens"], 20);
  EXPECT_GT(lines[2]["prefill_tokens_per_s"].get<double>(), 0);
  EXPECT_GT(lines[2]["decode_tokens_per_s"].get<double>(), 0);
  for (int i : {0, 1}) {
    EXPECT_EQ(lines[3 + i]["measurement"], "prompt");
    EXPECT_EQ(lines[3 + i]["tokens"], i == 0 ? 33 : 70);
    EXPECT_GT(lines[3 + i]["first_token_s"].get<double>(), 0);
    EXPECT_GT(lines[3 + i]["prefill_tokens_per_s"].get<double>(), 0);
    const nlohmann::json& batch = lines[5 + i];
    EXPECT_EQ(batch["measurement"], "batch");
    EXPECT_EQ(batch["sessions"], i == 0 ? 1 : 3);
    EXPECT_EQ(batch["depth"], 50);
    EXPECT_NEAR(batch["tokens_per_s"].get<double>() * batch["step_ms"].get<double>(),
                1000 * batch["sessions"].get<int>(), 1);
    EXPECT_GT(batch["host_us_per_step"].get<double>(), 0);
  }
  const nlohmann::json& long_session = lines[7];
  EXPECT_EQ(long_session["measurement"], "long_session");
  EXPECT_EQ(long_session["tokens"], 2000);
  EXPECT_GT(long_session["before_ms"].get<double>(), 0);
  EXPECT_NEAR(long_session["ratio"].get<double>(),
              long_session["old_ms"].get<double>() / long_session["young_ms"].get<double>(), 1e-6);
}

TEST(BenchTest, MeasuresTwoRanks) {
  const std::vector<nlohmann::json> lines =
      JsonLines(Bench({"--tensor-parallel=2", "--depths", "20", "--prompts", "33", "--batches", "2",
                       "--depth=50", "--long-session=300", "--steps=16", "--json"}));
  ASSERT_EQ(lines.size(), 5u);
  for (const nlohmann::json& line : lines) EXPECT_EQ(line["tensor_parallel"], 2) << line;
  // That of both ranks: a KV head each.
  EXPECT_EQ(lines[0]["session_bytes"], 3 * 2 * 68 * (2 * 32 * 4 + 12));
  EXPECT_GT(lines[1]["prefill_tokens_per_s"].get<double>(), 0);
  EXPECT_GT(lines[1]["decode_tokens_per_s"].get<double>(), 0);
  EXPECT_GT(lines[2]["first_token_s"].get<double>(), 0);
  const nlohmann::json& batch = lines[3];
  EXPECT_EQ(batch["sessions"], 2);
  EXPECT_GT(batch["host_us_per_step"].get<double>(), 0);
  EXPECT_GT(lines[4]["ratio"].get<double>(), 0);
}

TEST(BenchTest, PrintsTables) {
  const Outcome tables = Bench({"--fit", "--depths", "20", "--prompts", "33", "--batches", "2",
                                "--long-session=300", "--steps=8", "--layers=1"});
  EXPECT_EQ(tables.exit_code, 0) << tables.output;
  for (const char* text :
       {" on 1 x cpu", "loaded in ", "room for 2 sessions", "sessions fit", "decode, tokens/s",
        "to first token, s", "decode, ms/step", "of it host, us/step", "to a young session's"}) {
    EXPECT_THAT(tables.output, HasSubstr(text));
  }
}

TEST(BenchTest, MeasuresDepthsOfAModelFileByDefault) {
  const std::vector<nlohmann::json> lines = JsonLines(
      RunWeir({"bench", "offline", "--model=" + SmallModelPath(), "--threads=1", "--json"}));
  ASSERT_EQ(lines.size(), 6u);
  EXPECT_EQ(lines[0]["model"], "Test Llama");
  EXPECT_EQ(lines[1]["tokens"], 128);
  EXPECT_EQ(lines[5]["tokens"], 8000);
  EXPECT_GT(lines[5]["load_s"].get<double>(), 0);
  EXPECT_THAT(lines[5]["device"].get<std::string>(), HasSubstr("cpu"));
}

TEST(BenchTest, SaysWhatItCannotMeasure) {
  const auto expect_refused = [](const Outcome& outcome, int exit_code, const std::string& words) {
    EXPECT_EQ(outcome.exit_code, exit_code) << words;
    EXPECT_THAT(outcome.output, HasSubstr(words));
  };
  expect_refused(Bench({"--batches", "4", "--max-sessions=3"}), 1,
                 "--max-sessions is 3; what is measured needs 4");
  expect_refused(Bench({"--long-session=1000", "--max-sessions=1"}), 1, "needs 2");
  expect_refused(Bench({"--layers=4"}), 1, "has 3 layers; it cannot be cut to 4");
  expect_refused(Bench({"--device=abacus"}), 2, "abacus");
  expect_refused(Bench({"--depths", "0"}), 2, "--depths");
  const Outcome indivisible = Bench({"--tensor-parallel=3"});
  expect_refused(indivisible, 1, "tensor-parallel size 3 does not divide the model's 2 KV heads");
  EXPECT_EQ(indivisible.output.find('\n'), indivisible.output.size() - 1) << indivisible.output;
  expect_refused(Bench({"--tensor-parallel=0"}), 2, "--tensor-parallel");
  expect_refused(Bench({"--tensor-parallel=2", "--fit"}), 1,
                 "--fit is of one rank; leave out --tensor-parallel");
  expect_refused(RunWeir({"bench", "offline", "--model=" + ConfigPath(), "--load-format=onnx"}), 2,
                 "--load-format");
  expect_refused(RunWeir({"bench", "offline", "--model=" + SmallModelPath(), "--layers=1"}), 1,
                 "only a dummy model can be cut");
}

TEST(DummyModelTest, IsServedByTwoWorkers) {
  std::vector<std::string> arguments = {
      "serve",    "--model=" + ConfigPath(), "--load-format=dummy", "--tensor-parallel=2",
      "--port=0", "--metrics-port=0",        "--max-sessions=2"};
  for (const std::string& flag : SmallCascade()) arguments.push_back(flag);
  Child server(arguments);
  const std::string address = server.WaitFor("serving gRPC on ");
  ASSERT_FALSE(address.empty()) << server.output();
  EXPECT_THAT(server.output(), HasSubstr("dummy Llama"));
  const Outcome answer =
      RunWeir({"generate", "hi", "--max-tokens=5", "--ignore-end", "--server=" + address});
  EXPECT_EQ(answer.exit_code, 0) << answer.output;
  EXPECT_FALSE(answer.output.empty());
}

TEST(DummyModelTest, ServeRefusesAConfigThatIsNone) {
  const std::string path = TestFile("other.json");
  nlohmann::ordered_json config = SmallConfig();
  config["architectures"] = {"MambaForCausalLM"};
  WriteConfig(path, config);
  const Outcome refused = RunWeir({"serve", "--model=" + path, "--load-format=dummy"});
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_THAT(refused.output, HasSubstr("the architecture is 'MambaForCausalLM'"));
  const Outcome no_gguf = RunWeir({"serve", "--model=" + ConfigPath()});
  EXPECT_EQ(no_gguf.exit_code, 1);
  EXPECT_THAT(no_gguf.output, HasSubstr("is not a GGUF file"));
}

}  // namespace
}  // namespace weir
