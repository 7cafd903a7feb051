#include "worker/service/score.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/worker/service/test_leader.h"

namespace weir {
namespace {

using ::testing::IsEmpty;

class ScoreTest : public ::testing::Test {
 protected:
  absl::Status Run(const std::string& session, const std::string& text) {
    v1::ScoreRequest request;
    request.set_session_id(session);
    request.set_text(text);
    tokens_.clear();
    return Score(
        *leader_, request, [] { return false; },
        [this](const v1::ScoreResponse& response) {
          total_ = response.tokens_total();
          tokens_.insert(tokens_.end(), response.tokens().begin(), response.tokens().end());
          return ++writes_ != fail_at_write_;
        });
  }

  TestLeader leader_;
  std::vector<v1::TokenLogprob> tokens_;
  int64_t total_ = 0;
  int writes_ = 0;
  int fail_at_write_ = -1;
};

TEST_F(ScoreTest, EveryTokenHasItsLogprobButTheFirstOfAnEmptySession) {
  ASSERT_EQ(Run("", "the hen, running"), absl::OkStatus());
  const std::vector<int32_t> expected = leader_.Encode("the hen, running");
  ASSERT_EQ(tokens_.size(), expected.size());
  EXPECT_EQ(total_, static_cast<int64_t>(expected.size()));
  std::string text;
  for (size_t i = 0; i < tokens_.size(); ++i) {
    EXPECT_EQ(tokens_[i].token(), expected[i]);
    EXPECT_EQ(tokens_[i].has_logprob(), i > 0);
    if (i > 0) {
      EXPECT_EQ(tokens_[i].logprob(), -expected[i]);
    }
    text += tokens_[i].token_bytes();
  }
  EXPECT_EQ(text, "the hen, running");
  EXPECT_THAT(leader_.engine().OpenIds(), IsEmpty());
}

TEST_F(ScoreTest, TheFirstTokenOfALaterTextHasALogprob) {
  leader_.Open("s");
  ASSERT_EQ(Run("s", "ab"), absl::OkStatus());
  EXPECT_FALSE(tokens_[0].has_logprob());
  ASSERT_EQ(Run("s", "cd"), absl::OkStatus());
  EXPECT_TRUE(tokens_[0].has_logprob());
}

TEST_F(ScoreTest, AnEmptyTextIsRefused) {
  EXPECT_EQ(Run("", "").code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(leader_.engine().OpenIds(), IsEmpty());
}

TEST_F(ScoreTest, TheSlotIsFreedWhenTheCallerGoesAway) {
  fail_at_write_ = 1;
  EXPECT_EQ(Run("", "the hen, running").code(), absl::StatusCode::kCancelled);
  EXPECT_THAT(leader_.engine().OpenIds(), IsEmpty());
}

}  // namespace
}  // namespace weir
