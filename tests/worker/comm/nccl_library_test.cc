// Needs the library, but no GPU.

#include "worker/comm/nccl_library.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace weir {
namespace {

using ::testing::HasSubstr;

TEST(NcclLibraryTest, LoadsOnce) {
  const absl::StatusOr<const NcclLibrary*> library = LoadNccl();
  ASSERT_TRUE(library.ok()) << library.status();
  EXPECT_EQ(LoadNccl().value(), *library);
  int version = 0;
  EXPECT_EQ((*library)->GetVersion(&version), ncclSuccess);
  EXPECT_GE(version, 22800);
  EXPECT_EQ(std::string((*library)->GetErrorString(ncclSuccess)), "no error");
}

TEST(NcclLibraryTest, SaysThatItIsMissing) {
  const absl::Status status = OpenNccl("libnccl_nowhere.so").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr("NCCL is missing"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("libnccl_nowhere.so"));
}

TEST(NcclLibraryTest, SaysWhichVersionIsTooOld) {
  const absl::Status status = OpenNccl("tests/worker/comm/libold_nccl.so").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr("is NCCL 2.21.5,"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("need 2.28.0 or newer"));
}

TEST(NcclLibraryTest, SaysThatALibraryIsAnother) {
  const absl::Status status = OpenNccl("libm.so.6").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr("libm.so.6 has no function nccl"));
}

}  // namespace
}  // namespace weir
