#include "worker/engine/generate_limits.h"

#include <cmath>
#include <string>
#include <utility>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace weir {
namespace {

absl::Status Validate(void (*change)(GenerateOptions&)) {
  GenerateOptions options;
  change(options);
  return ValidateGenerateOptions(options);
}

TEST(GenerateLimitsTest, AbsurdOptionsAreNamed) {
  using testing::HasSubstr;
  EXPECT_TRUE(ValidateGenerateOptions({}).ok());
  const std::pair<absl::Status, std::string> cases[] = {
      {Validate([](GenerateOptions& o) { o.sampling.temperature = -0.1; }), "temperature is -0.1"},
      {Validate([](GenerateOptions& o) { o.sampling.temperature = 101; }), "temperature is 101"},
      {Validate([](GenerateOptions& o) { o.sampling.temperature = std::nan(""); }), "temperature"},
      {Validate([](GenerateOptions& o) { o.sampling.top_k = -1; }), "top_k is -1"},
      {Validate([](GenerateOptions& o) { o.sampling.top_k = 1025; }), "top_k is 1025"},
      {Validate([](GenerateOptions& o) { o.sampling.top_p = 0; }), "top_p is 0"},
      {Validate([](GenerateOptions& o) { o.sampling.top_p = 1.5; }), "top_p is 1.5"},
      {Validate([](GenerateOptions& o) { o.sampling.top_p = std::nan(""); }), "top_p"},
      {Validate([](GenerateOptions& o) { o.max_tokens = -1; }), "max_tokens is -1"},
      {Validate([](GenerateOptions& o) { o.top_logprobs = 21; }), "top_logprobs is 21"},
      {Validate([](GenerateOptions& o) { o.top_logprobs = -1; }), "top_logprobs is -1"},
      {Validate([](GenerateOptions& o) { o.stop.resize(17, "x"); }), "stop has 17 texts"},
      {Validate([](GenerateOptions& o) {
         o.stop = {"x", ""};
       }),
       "stop[1] has 0 bytes"},
      {Validate([](GenerateOptions& o) { o.stop = {std::string(257, 'x')}; }), "stop[0] has 257"},
      {Validate([](GenerateOptions& o) { o.stop = {"\xff"}; }), "stop[0] is not valid UTF-8"},
  };
  for (const auto& [status, message] : cases) {
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << message;
    EXPECT_THAT(std::string(status.message()), HasSubstr(message));
  }
}

TEST(GenerateLimitsTest, TheLimitsThemselvesAreAllowed) {
  GenerateOptions options;
  options.sampling = {.temperature = kMaxTemperature, .top_k = 0, .top_p = 1};
  options.top_logprobs = kMaxTopLogprobs;
  options.stop.assign(kMaxStopTexts, std::string(kMaxStopBytes, 'x'));
  EXPECT_TRUE(ValidateGenerateOptions(options).ok());
  options.top_logprobs = 0;
  options.sampling.top_k = 1024;
  EXPECT_TRUE(ValidateGenerateOptions(options).ok());
}

}  // namespace
}  // namespace weir
