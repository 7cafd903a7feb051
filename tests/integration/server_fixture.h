#ifndef WEIR_TESTS_INTEGRATION_SERVER_FIXTURE_H_
#define WEIR_TESTS_INTEGRATION_SERVER_FIXTURE_H_

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include "tests/integration/api.h"
#include "tests/integration/child.h"

namespace weir {

// Matches a grpc::Status with this code and these words.
MATCHER_P2(Is, code, words, "") {
  *result_listener << "code " << arg.error_code() << ": " << arg.error_message();
  return arg.error_code() == code && arg.error_message().find(words) != std::string::npos;
}
MATCHER(IsOk, "") {
  *result_listener << "code " << arg.error_code() << ": " << arg.error_message();
  return arg.ok();
}

// `weir serve` with three ranks and a small model, one for all tests of a suite. It has two
// sessions' room; a test gives back all that it took.
class ServerTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite();
  static void TearDownTestSuite();

  // Whatever a test did, the server goes on and has all its room.
  void TearDown() override;

  static Child* server_;
  static Api* api_;
};

}  // namespace weir

#endif  // WEIR_TESTS_INTEGRATION_SERVER_FIXTURE_H_
