#include "cache/cascade_limits.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace weir {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr CascadeLimits kLimits{.positions = 8192, .total_slots = 2048, .stride = 512};

void ExpectRefused(const CascadeConfig& cascade, const std::string& setting,
                   const std::string& value, const std::string& limit,
                   const CascadeLimits& limits = kLimits) {
  const absl::Status status = ValidateCascade(cascade, limits);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr(setting), HasSubstr(value), HasSubstr(limit)));
}

TEST(ValidateCascadeTest, AcceptsTheDefaultsAndTheEdges) {
  EXPECT_TRUE(ValidateCascade({}, kLimits).ok());
  EXPECT_TRUE(
      ValidateCascade({.sinks = 0, .slots = 1, .sub_caches = 1, .stride = 1, .beta = 0}, kLimits)
          .ok());
  EXPECT_TRUE(
      ValidateCascade({.sinks = 1024, .slots = 1024, .sub_caches = 32, .stride = 512, .beta = 1},
                      kLimits)
          .ok());
  // Exactly the model's positions.
  EXPECT_TRUE(ValidateCascade({.sinks = 64, .slots = 704, .sub_caches = 4, .stride = 256},
                              {.positions = 1024, .total_slots = 2048, .stride = 512})
                  .ok());
}

TEST(ValidateCascadeTest, NamesTheSettingItsValueAndTheLimit) {
  ExpectRefused({.sinks = -1}, "sinks", "-1", "at least 0");
  ExpectRefused({.slots = 0}, "slots", "0", "at least 1");
  ExpectRefused({.slots = -4}, "slots", "-4", "at least 1");
  ExpectRefused({.sub_caches = 0}, "sub_caches", "0", "1 to 32");
  ExpectRefused({.slots = 1024, .sub_caches = 64}, "sub_caches", "64", "1 to 32");
  ExpectRefused({.slots = 1000, .sub_caches = 3}, "slots", "1000", "multiple of sub_caches, 3");
  ExpectRefused({.stride = 0}, "stride", "0", "1 to this server's 512");
  ExpectRefused({.stride = 513}, "stride", "513", "512");
  ExpectRefused({.beta = -0.1}, "beta", "-0.1", "0 to 1");
  ExpectRefused({.beta = 1.5}, "beta", "1.5", "0 to 1");
  ExpectRefused({.beta = std::numeric_limits<double>::quiet_NaN()}, "beta", "nan", "0 to 1");
  ExpectRefused({.sinks = 1028, .slots = 1024}, "sinks + slots", "2052", "2048");
}

TEST(ValidateCascadeTest, KeepsPositionsWithinTheModel) {
  const CascadeLimits limits{.positions = 1023, .total_slots = 2048, .stride = 512};
  ExpectRefused({.sinks = 64, .slots = 704, .sub_caches = 4, .stride = 256},
                "sinks + slots + stride", "64 + 704 + 256 = 1024", "1023", limits);
}

TEST(ValidateCascadeTest, SumsDoNotOverflow) {
  constexpr int kHuge = std::numeric_limits<int>::max();
  const CascadeConfig huge{.sinks = kHuge, .slots = kHuge, .sub_caches = 1};
  ExpectRefused(huge, "sinks + slots", "4294967294", "2048");
  ExpectRefused(huge, "sinks + slots + stride", "4294967550", "8192", LimitsOf(huge, 8192));
}

TEST(RotationsNeededTest, LimitsCoverEveryValidSettingAndOneNeedsAllOfThem) {
  for (const CascadeLimits& limits :
       {CascadeLimits{.positions = 40, .total_slots = 12, .stride = 7},
        CascadeLimits{.positions = 14, .total_slots = 12, .stride = 7},
        CascadeLimits{.positions = 9, .total_slots = 12, .stride = 7}}) {
    int64_t most = 0;
    for (int sinks = 0; sinks <= 12; ++sinks) {
      for (int slots = 1; slots <= 12; ++slots) {
        for (int sub_caches = 1; sub_caches <= 12; ++sub_caches) {
          for (int stride = 1; stride <= 7; ++stride) {
            const CascadeConfig cascade{
                .sinks = sinks, .slots = slots, .sub_caches = sub_caches, .stride = stride};
            if (!ValidateCascade(cascade, limits).ok()) continue;
            most = std::max(most, RotationsNeeded(cascade));
          }
        }
      }
    }
    EXPECT_EQ(RotationsNeeded(limits), most);
  }
}

}  // namespace
}  // namespace weir
