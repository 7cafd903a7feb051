#include "worker/model/hugging_face_config.h"

#include <cmath>
#include <numbers>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/testing/gguf_writer.h"
#include "tests/testing/runfiles.h"
#include "tests/testing/small_config.h"

namespace weir {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;
using Json = nlohmann::ordered_json;

absl::StatusOr<HuggingFaceConfig> Parse(const Json& config) {
  return ParseHuggingFaceConfig("config", config.dump());
}

// The small config with `key` set to `value`.
absl::StatusOr<HuggingFaceConfig> ParseWith(const std::string& key, const Json& value) {
  Json config = SmallConfig();
  config[key] = value;
  return Parse(config);
}

void ExpectRefused(const absl::StatusOr<HuggingFaceConfig>& config, absl::StatusCode code,
                   const std::string& words) {
  EXPECT_EQ(config.status().code(), code) << config.status() << ", not " << words;
  EXPECT_THAT(std::string(config.status().message()), StartsWith("config"));
  EXPECT_THAT(std::string(config.status().message()), HasSubstr(words));
}

constexpr absl::StatusCode kInvalid = absl::StatusCode::kInvalidArgument;
constexpr absl::StatusCode kUnimplemented = absl::StatusCode::kUnimplemented;

TEST(HuggingFaceConfigTest, ReadsSizes) {
  const absl::StatusOr<HuggingFaceConfig> config = Parse(SmallConfig());
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->llama.layers, 3);
  EXPECT_EQ(config->llama.hidden, 64);
  EXPECT_EQ(config->llama.query_heads, 4);
  EXPECT_EQ(config->llama.kv_heads, 2);
  EXPECT_EQ(config->llama.head_dim, 32);
  EXPECT_EQ(config->llama.feed_forward, 96);
  EXPECT_EQ(config->llama.vocabulary, 300);
  EXPECT_EQ(config->llama.positions, 4096);
  EXPECT_EQ(config->llama.norm_epsilon, 1e-5f);
  EXPECT_EQ(config->llama.rope_base, 10000);
  EXPECT_EQ(config->llama.rope_scale, 1);
  EXPECT_TRUE(config->llama.rope_divisors.empty());
  EXPECT_FALSE(config->tied_embeddings);
}

TEST(HuggingFaceConfigTest, KnowsWhatIsMeantByAbsence) {
  Json json = SmallConfig();
  for (const char* key : {"num_key_value_heads", "head_dim", "rope_theta", "rope_scaling",
                          "tie_word_embeddings", "hidden_act"}) {
    json.erase(key);
  }
  json["sliding_window"] = nullptr;
  json["architectures"] = {"MistralForCausalLM"};
  const absl::StatusOr<HuggingFaceConfig> config = Parse(json);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->llama.kv_heads, 4);
  EXPECT_EQ(config->llama.head_dim, 16);
  EXPECT_EQ(config->llama.rope_base, 10000);
  EXPECT_FALSE(config->tied_embeddings);
}

TEST(HuggingFaceConfigTest, ReadsTheShapesThatAreBenchmarked) {
  const absl::StatusOr<HuggingFaceConfig> large =
      ReadHuggingFaceConfig(Runfile("weir/tests/bench/shapes/llama-3.1-8b/config.json"));
  ASSERT_TRUE(large.ok()) << large.status();
  EXPECT_EQ(large->llama.layers, 32);
  EXPECT_EQ(large->llama.vocabulary, 128256);
  EXPECT_EQ(large->llama.rope_divisors.size(), 64u);
  const absl::StatusOr<HuggingFaceConfig> small =
      ReadHuggingFaceConfig(Runfile("weir/tests/bench/shapes/smollm2-135m-2kv/config.json"));
  ASSERT_TRUE(small.ok()) << small.status();
  EXPECT_EQ(small->llama.layers, 30);
  EXPECT_TRUE(small->tied_embeddings);
  EXPECT_THAT(TensorParallelSizes(small->llama), ::testing::ElementsAre(1, 2));
}

TEST(HuggingFaceConfigTest, Llama3StretchesSlowRotations) {
  Json json = SmallConfig();
  json["head_dim"] = 128;
  json["rope_theta"] = 500000;
  json["rope_scaling"] = {{"rope_type", "llama3"},
                          {"factor", 8},
                          {"low_freq_factor", 1},
                          {"high_freq_factor", 4},
                          {"original_max_position_embeddings", 8192}};
  const absl::StatusOr<HuggingFaceConfig> config = Parse(json);
  ASSERT_TRUE(config.ok()) << config.status();
  const std::vector<float>& divisors = config->llama.rope_divisors;
  ASSERT_EQ(divisors.size(), 64u);
  int between = 0;
  for (int i = 0; i < 64; ++i) {
    // By wavelengths, as the model's authors tell it.
    const double wavelength = 2 * std::numbers::pi * std::pow(500000, i / 64.0);
    double divisor = 8;
    if (wavelength < 8192 / 4.0) {
      divisor = 1;
    } else if (wavelength <= 8192 / 1.0) {
      const double smooth = (8192 / wavelength - 1) / (4 - 1);
      divisor = 1 / ((1 - smooth) / 8 + smooth);
      ++between;
    }
    EXPECT_NEAR(divisors[i], divisor, 1e-5 * divisor) << i;
  }
  EXPECT_EQ(divisors.front(), 1);
  EXPECT_EQ(divisors.back(), 8);
  EXPECT_GT(between, 3);
}

TEST(HuggingFaceConfigTest, ReadsOtherRotations) {
  absl::StatusOr<HuggingFaceConfig> config =
      ParseWith("rope_scaling", {{"type", "linear"}, {"factor", 4}});
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->llama.rope_scale, 4);
  config = ParseWith("rope_parameters", {{"rope_type", "default"}, {"rope_theta", 1e6}});
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->llama.rope_base, 1e6);
  EXPECT_EQ(config->llama.rope_scale, 1);
}

TEST(HuggingFaceConfigTest, RefusesOtherModelsByName) {
  ExpectRefused(ParseWith("architectures", {"Qwen2ForCausalLM"}), kUnimplemented,
                "the architecture is 'Qwen2ForCausalLM'");
  ExpectRefused(ParseWith("sliding_window", 4096), kUnimplemented, "sliding_window");
  ExpectRefused(ParseWith("attention_bias", true), kUnimplemented, "attention_bias");
  ExpectRefused(ParseWith("mlp_bias", true), kUnimplemented, "mlp_bias");
  ExpectRefused(ParseWith("hidden_act", "gelu"), kUnimplemented, "'gelu'");
  ExpectRefused(ParseWith("head_dim", 33), kUnimplemented, "33");
  for (const char* type : {"yarn", "dynamic", "longrope"}) {
    ExpectRefused(ParseWith("rope_scaling", {{"type", type}, {"factor", 2}}), kUnimplemented,
                  absl::StrCat("rope_scaling is of type '", type, "'"));
  }
}

TEST(HuggingFaceConfigTest, NamesWhatIsWrong) {
  for (const char* key :
       {"architectures", "num_hidden_layers", "hidden_size", "num_attention_heads",
        "intermediate_size", "vocab_size", "max_position_embeddings", "rms_norm_eps"}) {
    Json json = SmallConfig();
    json.erase(key);
    ExpectRefused(Parse(json), kInvalid, absl::StrCat(key, " is missing"));
  }
  for (const char* key :
       {"num_hidden_layers", "hidden_size", "num_attention_heads", "num_key_value_heads",
        "head_dim", "intermediate_size", "vocab_size", "max_position_embeddings"}) {
    for (const Json& value :
         {Json(0), Json(-1), Json(1e30), Json(2.5), Json(UINT64_MAX), Json(INT64_MIN), Json("8"),
          Json(true), Json(Json::array({1})), Json(Json::object()), Json(int64_t{1} << 32)}) {
      ExpectRefused(ParseWith(key, value), kInvalid, absl::StrCat(key, " is "));
    }
  }
  for (const char* key : {"rms_norm_eps", "rope_theta"}) {
    for (const Json& value : {Json(0), Json(-1), Json(1e300), Json("1"), Json(false)}) {
      ExpectRefused(ParseWith(key, value), kInvalid, absl::StrCat(key, " is "));
    }
  }
  ExpectRefused(ParseWith("vocab_size", "49152"), kInvalid,
                "vocab_size is '49152'; it must be an integer from 1 to ");
  ExpectRefused(ParseWith("tie_word_embeddings", 1), kInvalid, "true or false");
  ExpectRefused(ParseWith("architectures", "LlamaForCausalLM"), kInvalid, "an array of one string");
  ExpectRefused(ParseWith("architectures", Json::array()), kInvalid, "an array of one string");
  ExpectRefused(ParseWith("num_key_value_heads", 3), kInvalid, "a multiple");
  ExpectRefused(ParseWith("rope_scaling", 3), kInvalid, "rope_scaling is 3");
  ExpectRefused(ParseWith("rope_scaling", {{"type", "linear"}}), kInvalid, "factor is missing");
  ExpectRefused(ParseWith("rope_scaling", {{"type", "linear"}, {"factor", 0}}), kInvalid,
                "rope_scaling: factor is 0");
  ExpectRefused(ParseWith("rope_scaling", {{"rope_type", "llama3"},
                                           {"factor", 8},
                                           {"low_freq_factor", 4},
                                           {"high_freq_factor", 4},
                                           {"original_max_position_embeddings", 8192}}),
                kInvalid, "high_freq_factor is 4");
  Json uneven = SmallConfig();
  uneven.erase("head_dim");
  uneven["hidden_size"] = 66;
  ExpectRefused(Parse(uneven), kInvalid, "hidden_size is 66");
}

TEST(HuggingFaceConfigTest, RefusesWhatIsNoObject) {
  for (const std::string& text :
       {std::string(), std::string("[]"), std::string("3"), std::string("{"),
        std::string("{\"hidden_size\": 1e999}"), std::string("{} {}"), std::string("{'a': 1}"),
        std::string("\xff\xfe{}"), std::string(900000, '['), std::string(900000, '{')}) {
    ExpectRefused(ParseHuggingFaceConfig("config", text), kInvalid, "is not a JSON object");
  }
  ExpectRefused(ParseHuggingFaceConfig("config", "{}"), kInvalid, "architectures is missing");
}

TEST(HuggingFaceConfigTest, RefusesFilesThatAreNone) {
  EXPECT_EQ(ReadHuggingFaceConfig("/nonexistent/config.json").status().code(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(ReadHuggingFaceConfig(testing::TempDir()).status().code(), kInvalid);
  const std::string path = testing::TempDir() + "/huge.json";
  WriteFileOrDie(path, std::string((1 << 20) + 1, ' '));
  const absl::Status huge = ReadHuggingFaceConfig(path).status();
  EXPECT_EQ(huge.code(), kInvalid);
  EXPECT_THAT(std::string(huge.message()), HasSubstr("1048577 bytes"));
}

}  // namespace
}  // namespace weir
