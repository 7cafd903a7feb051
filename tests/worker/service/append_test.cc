#include "worker/service/append.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "tests/worker/service/test_leader.h"
#include "worker/service/sessions.h"

namespace weir {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using End = ScriptedAppendStream::End;

constexpr char kText[] = "the hen and the running hen \u20ac and then";

class AppendTest : public ::testing::Test {
 protected:
  AppendTest() { leader_.Open("s"); }

  absl::Status Run(ScriptedAppendStream& stream) {
    response_.Clear();
    return Append(*leader_, stream, &response_);
  }
  absl::Status Run(ScriptedAppendStream&& stream) { return Run(stream); }

  // The chunks that the whole text must be read in: of 4 tokens, the last one shorter.
  std::vector<std::vector<int32_t>> Chunks(const std::string& text) {
    const std::vector<int32_t> tokens = leader_.Encode(text);
    std::vector<std::vector<int32_t>> chunks;
    for (size_t at = 0; at < tokens.size(); at += 4) {
      chunks.emplace_back(tokens.begin() + at, tokens.begin() + std::min(at + 4, tokens.size()));
    }
    return chunks;
  }

  TestLeader leader_;
  v1::AppendResponse response_;
};

TEST_F(AppendTest, ReadsAWholeText) {
  ASSERT_EQ(Run(ScriptedAppendStream("s").Add(0, kText)), absl::OkStatus());
  EXPECT_EQ(leader_.engine().Get("s").chunks, Chunks(kText));
  const int64_t tokens = static_cast<int64_t>(leader_.Encode(kText).size());
  EXPECT_EQ(response_.tokens_read(), tokens);
  EXPECT_EQ(response_.session().id(), "s");
  EXPECT_EQ(response_.session().tokens_seen(), tokens);
  EXPECT_EQ(response_.session().appended_bytes(), static_cast<int64_t>(sizeof(kText) - 1));
  EXPECT_FALSE(response_.session().append_open());
  EXPECT_FALSE(response_.session().running());
}

TEST_F(AppendTest, BrokenStreamsReadTheSameChunksAsAnUnbrokenOne) {
  std::mt19937_64 random(3);
  const std::string text = kText;
  for (int trial = 0; trial < 30; ++trial) {
    TestLeader leader;
    leader.Open("s");
    while (true) {
      const int64_t known = DescribeSession(*leader, "s")->appended_bytes();
      // Sometimes from further back; sometimes to the end of the text.
      int64_t at = known == 0 ? 0 : known - static_cast<int64_t>(random() % known) / 2;
      const bool to_the_end = random() % 4 == 0;
      ScriptedAppendStream stream("s", to_the_end ? End::kClosed : End::kBroken);
      for (int piece = 0; to_the_end ? at < static_cast<int64_t>(text.size()) : piece < 3;
           ++piece) {
        const std::string bytes = text.substr(std::min<size_t>(at, text.size()), random() % 6);
        stream.Add(at, bytes);
        at += static_cast<int64_t>(bytes.size());
      }
      v1::AppendResponse response;
      const absl::Status status = Append(*leader, stream, &response);
      if (to_the_end && status.ok()) break;
      ASSERT_EQ(status.code(), absl::StatusCode::kCancelled) << status;
    }
    EXPECT_EQ(leader.engine().Get("s").chunks, Chunks(text));
    EXPECT_THAT(leader.engine().Get("s").text_ends,
                ElementsAre(static_cast<int>(Chunks(text).size())));
  }
}

TEST_F(AppendTest, ABrokenStreamLeavesTheTextOpen) {
  EXPECT_EQ(Run(ScriptedAppendStream("s", End::kBroken).Add(0, "the hen and")).code(),
            absl::StatusCode::kCancelled);
  const v1::Session session = DescribeSession(*leader_, "s").value();
  EXPECT_TRUE(session.append_open());
  EXPECT_EQ(session.appended_bytes(), 11);
  EXPECT_FALSE(session.running());
  EXPECT_THAT(leader_.engine().Get("s").text_ends, IsEmpty());
}

TEST_F(AppendTest, AStreamThatClosesBeforeTheEndOfItsTextLeavesItOpen) {
  ASSERT_EQ(Run(ScriptedAppendStream("s", End::kLeftOpen).Add(0, "the hen and the")),
            absl::OkStatus());
  EXPECT_TRUE(response_.session().append_open());
  EXPECT_EQ(response_.session().appended_bytes(), 15);
  ASSERT_EQ(Run(ScriptedAppendStream("s").Add(15, " running hen")), absl::OkStatus());
  EXPECT_EQ(leader_.engine().Get("s").chunks, Chunks("the hen and the running hen"));
}

TEST_F(AppendTest, NothingFollowsTheEndOfAText) {
  class EndsTwice : public ScriptedAppendStream {
   public:
    EndsTwice() : ScriptedAppendStream("s") { Add(0, "abc").Add(3, "def"); }
    bool Read(v1::AppendRequest* request) override {
      const bool read = ScriptedAppendStream::Read(request);
      request->set_end_of_text(true);
      return read;
    }
  } stream;
  const absl::Status status = Run(stream);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("offset 3"));
  EXPECT_EQ(DescribeSession(*leader_, "s")->appended_bytes(), 3);
}

TEST_F(AppendTest, AStreamIsForOneSession) {
  leader_.Open("t");
  class ChangesSession : public ScriptedAppendStream {
   public:
    ChangesSession() : ScriptedAppendStream("s") { Add(0, "abc").Add(3, "def"); }
    bool Read(v1::AppendRequest* request) override {
      const bool read = ScriptedAppendStream::Read(request);
      if (request->offset() == 3) request->set_session_id("t");
      return read;
    }
  } stream;
  EXPECT_EQ(Run(stream).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(DescribeSession(*leader_, "t")->appended_bytes(), 0);
}

TEST_F(AppendTest, SendingAllAgainHasNoEffect) {
  ASSERT_EQ(Run(ScriptedAppendStream("s").Add(0, "the hen")), absl::OkStatus());
  const auto before = leader_.engine().Get("s").chunks;
  ASSERT_EQ(Run(ScriptedAppendStream("s").Add(0, "the").Add(3, " hen")), absl::OkStatus());
  EXPECT_EQ(leader_.engine().Get("s").chunks, before);
  EXPECT_EQ(response_.tokens_read(), 0);
  EXPECT_EQ(response_.session().appended_bytes(), 7);
}

TEST_F(AppendTest, AGapIsOutOfRangeAndTheSessionGoesOn) {
  const absl::Status gap = Run(ScriptedAppendStream("s").Add(0, "abc").Add(7, "xyz"));
  EXPECT_EQ(gap.code(), absl::StatusCode::kOutOfRange);
  EXPECT_THAT(std::string(gap.message()), HasSubstr("7"));
  EXPECT_THAT(std::string(gap.message()), HasSubstr("3"));
  ASSERT_EQ(Run(ScriptedAppendStream("s").Add(3, "def")), absl::OkStatus());
  EXPECT_EQ(leader_.TextOf("s"), "abcdef");
}

TEST_F(AppendTest, InvalidUtf8KeepsWhatCameBefore) {
  const absl::Status bad = Run(ScriptedAppendStream("s").Add(0, "abc\xc0zzz"));
  EXPECT_EQ(bad.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(bad.message()), HasSubstr("offset 3"));
  EXPECT_TRUE(DescribeSession(*leader_, "s")->append_open());
  ASSERT_EQ(Run(ScriptedAppendStream("s").Add(3, "def")), absl::OkStatus());
  EXPECT_EQ(leader_.TextOf("s"), "abcdef");
  EXPECT_EQ(leader_.engine().Get("s").chunks, Chunks("abcdef"));
}

TEST_F(AppendTest, ACharacterCutByABreakIsSentAgain) {
  EXPECT_EQ(Run(ScriptedAppendStream("s", End::kBroken).Add(0, "ab\xe2\x82")).code(),
            absl::StatusCode::kCancelled);
  EXPECT_EQ(DescribeSession(*leader_, "s")->appended_bytes(), 2);
  EXPECT_EQ(Run(ScriptedAppendStream("s").Add(4, "\xac")).code(), absl::StatusCode::kOutOfRange);
  ASSERT_EQ(Run(ScriptedAppendStream("s").Add(2, "\u20ac")), absl::OkStatus());
  EXPECT_EQ(leader_.TextOf("s"), "ab\u20ac");
}

TEST_F(AppendTest, TokensThatTheEngineRefusedComeWithTheNextAppend) {
  leader_.engine().FailFeedsAfter(5);
  EXPECT_EQ(Run(ScriptedAppendStream("s").Add(0, "the hen").Add(7, " and the running hen")).code(),
            absl::StatusCode::kCancelled);
  leader_.engine().FailFeedsAfter(-1);
  ASSERT_EQ(Run(ScriptedAppendStream("s").Add(0, "the hen and the running hen ")),
            absl::OkStatus());
  EXPECT_EQ(leader_.engine().Get("s").chunks, Chunks("the hen and the running hen "));
}

TEST_F(AppendTest, ATextThatWasWholeWhenItsCallBrokeIsReadByTheRetryAsOneText) {
  // The break comes when the client has closed the stream and waits.
  leader_.engine().FailFeedsAfter(0);
  EXPECT_EQ(Run(ScriptedAppendStream("s").Add(0, "hen")).code(), absl::StatusCode::kCancelled);
  leader_.engine().FailFeedsAfter(-1);
  EXPECT_FALSE(DescribeSession(*leader_, "s")->append_open());
  ASSERT_EQ(Run(ScriptedAppendStream("s").Add(0, "hen")), absl::OkStatus());
  EXPECT_EQ(leader_.engine().Get("s").chunks, Chunks("hen"));
  EXPECT_EQ(response_.tokens_read(), static_cast<int64_t>(leader_.Encode("hen").size()));
}

TEST_F(AppendTest, TwoTextsAreCutIntoChunksEachFromItsStart) {
  ASSERT_EQ(Run(ScriptedAppendStream("s").Add(0, "xyzxyz")), absl::OkStatus());
  ASSERT_EQ(Run(ScriptedAppendStream("s").Add(6, "xyzxyz")), absl::OkStatus());
  auto expected = Chunks("xyzxyz");
  for (const auto& chunk : Chunks("xyzxyz")) expected.push_back(chunk);
  EXPECT_EQ(leader_.engine().Get("s").chunks, expected);
}

TEST_F(AppendTest, AnEmptyStreamIsRefused) {
  EXPECT_EQ(Run(ScriptedAppendStream("s")).code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(AppendTest, AnUnknownSessionIsNotFound) {
  EXPECT_EQ(Run(ScriptedAppendStream("other").Add(0, "a")).code(), absl::StatusCode::kNotFound);
}

TEST_F(AppendTest, ABusySessionIsRefused) {
  const absl::StatusOr<SessionLease> lease = (*leader_).sessions.Acquire("s");
  EXPECT_EQ(Run(ScriptedAppendStream("s").Add(0, "a")).code(),
            absl::StatusCode::kFailedPrecondition);
}

TEST_F(AppendTest, RemovingTheSessionBreaksAStreamThatWaitsForItsClient) {
  absl::StatusOr<SessionLease> lease = (*leader_).sessions.Acquire("s");
  ScriptedAppendStream stream("s");
  lease->OnRemoved([&stream] { stream.Cancel(); });
  ASSERT_EQ(CloseSession(*leader_, "s"), absl::OkStatus());
  EXPECT_TRUE(stream.cancelled()());
}

TEST_F(AppendTest, EndingAnOpenTextReadsItsLastTokens) {
  EXPECT_EQ(Run(ScriptedAppendStream("s", End::kBroken).Add(0, "the hen and")).code(),
            absl::StatusCode::kCancelled);
  const auto never = [] { return false; };
  absl::StatusOr<SessionLease> lease = (*leader_).sessions.Acquire("s");
  ASSERT_TRUE(EndAppendedText(*leader_, **lease, never).ok());
  EXPECT_EQ(leader_.engine().Get("s").chunks, Chunks("the hen and"));
  EXPECT_EQ(EndAppendedText(*leader_, **lease, never).value(), 0);
}

}  // namespace
}  // namespace weir
