// `weir serve` with three ranks as any gRPC program sees it: wrong calls get the right status, a
// sentence that names the thing and the limit, and cost nobody else anything.

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <tuple>
#include <vector>

#include "tests/integration/api.h"
#include "tests/integration/server_fixture.h"

namespace weir {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr char kUnknownId[] = "00000000000000000000000000000000";

using Code = grpc::StatusCode;

class ServerRefusalsTest : public ServerTest {
 protected:
  static grpc::Status GenerateWith(const v1::SamplingSettings& sampling) {
    v1::GenerateRequest request = GoOn("the hen", 2);
    *request.mutable_sampling() = sampling;
    return api_->Generate(request);
  }
  static grpc::Status CreateWith(const v1::CascadeSettings& cascade) {
    v1::CreateSessionRequest request;
    v1::CreateSessionResponse response;
    *request.mutable_cascade() = cascade;
    const grpc::Status status =
        api_->sessions().CreateSession(Deadline().get(), request, &response);
    if (status.ok()) api_->Delete(response.session().id()).ok();
    return status;
  }
};

TEST_F(ServerRefusalsTest, RefusesTextThatIsNotUtf8) {
  const std::string id = api_->NewSession();
  EXPECT_THAT(api_->Append(id, 0, {"ab\xff"}), Is(Code::INVALID_ARGUMENT, "offset 2"));
  EXPECT_THAT(api_->Append(id, 2, {"\xc3", "\xc3"}), Is(Code::INVALID_ARGUMENT, "offset 2"));
  EXPECT_THAT(api_->Append(id, 2, {"\xe2\x82"}), Is(Code::INVALID_ARGUMENT, "offset"));
  EXPECT_EQ(api_->Get(id).appended_bytes(), 2);
  EXPECT_THAT(api_->Delete(id), IsOk());

  const std::string service = "/weir.v1.GenerationService/";
  const std::string field1 =
      "\x0a\x03"
      "a\xff"
      "b";
  const std::string field2 =
      "\x12\x03"
      "a\xff"
      "b";
  EXPECT_THAT(api_->SendBytes(service + "Tokenize", field1), Is(Code::INVALID_ARGUMENT, "UTF-8"));
  EXPECT_THAT(api_->SendBytes(service + "Generate", field2), Is(Code::INVALID_ARGUMENT, "UTF-8"));
  EXPECT_THAT(api_->SendBytes(service + "Score", field2), Is(Code::INVALID_ARGUMENT, "UTF-8"));
  EXPECT_THAT(api_->SendBytes("/weir.v1.SessionService/GetSession", field1),
              Is(Code::INVALID_ARGUMENT, "UTF-8"));
  EXPECT_THAT(api_->SendBytes(service + "Generate", "\xff\xff\xff"),
              Is(Code::INVALID_ARGUMENT, "no GenerateRequest"));
}

TEST_F(ServerRefusalsTest, RefusesAbsurdSampling) {
  for (double temperature : {-1.0, kNan, 1e9, HUGE_VAL}) {
    v1::SamplingSettings sampling;
    sampling.set_temperature(temperature);
    EXPECT_THAT(GenerateWith(sampling), Is(Code::INVALID_ARGUMENT, "must be from 0 to 100"));
  }
  for (double top_p : {0.0, -1.0, 2.0, kNan}) {
    v1::SamplingSettings sampling;
    sampling.set_top_p(top_p);
    EXPECT_THAT(GenerateWith(sampling), Is(Code::INVALID_ARGUMENT, "top_p is "));
  }
  v1::SamplingSettings sampling;
  sampling.set_top_k(-1);
  EXPECT_THAT(GenerateWith(sampling), Is(Code::INVALID_ARGUMENT, "top_k is -1"));
  sampling.set_top_k(1025);
  EXPECT_THAT(GenerateWith(sampling), Is(Code::INVALID_ARGUMENT, "must be from 0 to 1024"));
  // Extreme, but allowed.
  sampling.set_top_k(1024);
  sampling.set_top_p(1e-300);
  sampling.set_temperature(1e-300);
  EXPECT_THAT(GenerateWith(sampling), IsOk());
}

TEST_F(ServerRefusalsTest, RefusesAbsurdGenerations) {
  EXPECT_THAT(api_->Generate(GoOn("x", -5)), Is(Code::INVALID_ARGUMENT, "max_tokens is -5"));
  EXPECT_THAT(api_->Generate(GoOn("", 2)), Is(Code::INVALID_ARGUMENT, "neither text nor chat"));
  v1::GenerateRequest request = GoOn("x", 2);
  request.set_text("");
  EXPECT_THAT(api_->Generate(request), Is(Code::INVALID_ARGUMENT, "text is empty"));
  request.mutable_chat();
  EXPECT_THAT(api_->Generate(request), Is(Code::INVALID_ARGUMENT, "chat.messages is empty"));
  request = GoOn("x", 2);
  request.add_stop("");
  EXPECT_THAT(api_->Generate(request), Is(Code::INVALID_ARGUMENT, "stop[0] has 0 bytes"));
  request.set_stop(0, std::string(257, 'x'));
  EXPECT_THAT(api_->Generate(request), Is(Code::INVALID_ARGUMENT, "1 to 256"));
  for (int i = 0; i < 99; ++i) request.add_stop("x");
  EXPECT_THAT(api_->Generate(request), Is(Code::INVALID_ARGUMENT, "at most 16"));
  for (int count : {-1, 21}) {
    request = GoOn("x", 2);
    request.set_top_logprobs(count);
    EXPECT_THAT(api_->Generate(request), Is(Code::INVALID_ARGUMENT, "must be from 0 to 20"));
  }
  EXPECT_THAT(api_->Score({}), Is(Code::INVALID_ARGUMENT, "text is empty"));
}

TEST_F(ServerRefusalsTest, RefusesSettingsBeyondItsLimits) {
  const auto with = [](auto set) {
    v1::CascadeSettings cascade;
    set(cascade);
    return CreateWith(cascade);
  };
  using Cascade = v1::CascadeSettings;
  EXPECT_THAT(with([](Cascade& c) { c.set_slots(66); }), Is(Code::INVALID_ARGUMENT, "at most 68"));
  EXPECT_THAT(with([](Cascade& c) { c.set_slots(63); }),
              Is(Code::INVALID_ARGUMENT, "slots is 63; it must be a multiple of sub_caches, 2"));
  EXPECT_THAT(with([](Cascade& c) { c.set_slots(0); }), Is(Code::INVALID_ARGUMENT, "slots is 0"));
  EXPECT_THAT(with([](Cascade& c) { c.set_sinks(-1); }), Is(Code::INVALID_ARGUMENT, "sinks is -1"));
  EXPECT_THAT(with([](Cascade& c) {
                c.set_sinks(std::numeric_limits<int>::max());
                c.set_slots(std::numeric_limits<int>::max() - 1);
              }),
              Is(Code::INVALID_ARGUMENT, "at most 68"));
  EXPECT_THAT(with([](Cascade& c) { c.set_sub_caches(0); }),
              Is(Code::INVALID_ARGUMENT, "sub_caches is 0"));
  EXPECT_THAT(with([](Cascade& c) { c.set_sub_caches(1000); }),
              Is(Code::INVALID_ARGUMENT, "sub_caches is 1000"));
  EXPECT_THAT(with([](Cascade& c) { c.set_stride(17); }), Is(Code::INVALID_ARGUMENT, "16"));
  EXPECT_THAT(with([](Cascade& c) { c.set_stride(0); }), Is(Code::INVALID_ARGUMENT, "stride is 0"));
  EXPECT_THAT(with([](Cascade& c) { c.set_beta(1.5); }), Is(Code::INVALID_ARGUMENT, "beta is 1.5"));
  EXPECT_THAT(with([](Cascade& c) { c.set_beta(kNan); }),
              Is(Code::INVALID_ARGUMENT, "beta is nan"));
  EXPECT_THAT(with([](Cascade& c) { c.set_head_reduction(static_cast<v1::HeadReduction>(9)); }),
              Is(Code::INVALID_ARGUMENT, "head_reduction is 9"));
  // The least that there is.
  EXPECT_THAT(with([](Cascade& c) {
                c.set_sinks(0);
                c.set_slots(1);
                c.set_sub_caches(1);
                c.set_stride(1);
              }),
              IsOk());
}

TEST_F(ServerRefusalsTest, RefusesSessionsThatAreNotThere) {
  for (const auto& [id, code, words] :
       {std::tuple{kUnknownId, Code::NOT_FOUND, kUnknownId},
        std::tuple{"zz", Code::INVALID_ARGUMENT, "32 hexadecimal digits"},
        std::tuple{"zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz", Code::INVALID_ARGUMENT, "hexadecimal"}}) {
    EXPECT_THAT(api_->Generate(GoOn("x", 2, id)), Is(code, words));
    EXPECT_THAT(api_->Append(id, 0, {"x"}), Is(code, words));
    EXPECT_THAT(api_->Delete(id), Is(code, words));
  }
  EXPECT_THAT(api_->Append("", 0, {"x"}), Is(Code::INVALID_ARGUMENT, "session_id is not set"));
  EXPECT_THAT(api_->Delete(""), Is(Code::INVALID_ARGUMENT, "session_id is not set"));
  const std::string id = api_->NewSession();
  EXPECT_THAT(api_->Delete(id), IsOk());
  EXPECT_THAT(api_->Generate(GoOn("x", 2, id)), Is(Code::NOT_FOUND, id));
}

TEST_F(ServerRefusalsTest, RefusesOversizeMessages) {
  const std::string text(17 << 20, 'a');
  EXPECT_THAT(api_->Generate(GoOn(text, 1)), Is(Code::RESOURCE_EXHAUSTED, "16777216"));
  EXPECT_THAT(api_->Tokenize(text), Is(Code::RESOURCE_EXHAUSTED, "16777216"));
  const std::string id = api_->NewSession();
  EXPECT_THAT(api_->Append(id, 0, {text}), Is(Code::RESOURCE_EXHAUSTED, "16777216"));
  EXPECT_THAT(api_->Delete(id), IsOk());
}

TEST_F(ServerRefusalsTest, HasOneRunningCallASession) {
  const std::string id = api_->NewSession();
  const auto context = Deadline();
  const auto running = api_->generation().Generate(context.get(), GoOn("the hen", 0, id));
  v1::GenerateResponse response;
  ASSERT_TRUE(running->Read(&response));
  EXPECT_TRUE(api_->Get(id).running());
  EXPECT_THAT(api_->Generate(GoOn("x", 2, id)), Is(Code::FAILED_PRECONDITION, "one at a time"));
  EXPECT_THAT(api_->Append(id, 0, {"x"}), Is(Code::FAILED_PRECONDITION, "one at a time"));
  // Others go on beside it.
  EXPECT_THAT(api_->Generate(GoOn("the hen", 5)), IsOk());
  // Its deletion ends it.
  EXPECT_THAT(api_->Delete(id), IsOk());
  while (running->Read(&response)) {
  }
  EXPECT_THAT(running->Finish(), Is(Code::CANCELLED, "closed"));
}

TEST_F(ServerRefusalsTest, SaysAtOnceThatItIsFull) {
  const std::vector<std::string> ids = {api_->NewSession(), api_->NewSession()};
  EXPECT_THAT(CreateWith({}), Is(Code::RESOURCE_EXHAUSTED, "2"));
  EXPECT_THAT(api_->Generate(GoOn("x", 2)), Is(Code::RESOURCE_EXHAUSTED, "2"));
  // It says when to come back.
  const auto context = Deadline();
  v1::CreateSessionResponse response;
  EXPECT_THAT(api_->sessions().CreateSession(context.get(), {}, &response),
              Is(Code::RESOURCE_EXHAUSTED, "2"));
  EXPECT_EQ(context->GetServerTrailingMetadata().count("grpc-retry-pushback-ms"), 1u);
  // Those that are there go on.
  EXPECT_THAT(api_->Generate(GoOn("the hen", 2, ids[0])), IsOk());
  for (const std::string& id : ids) EXPECT_THAT(api_->Delete(id), IsOk());
}

}  // namespace
}  // namespace weir
