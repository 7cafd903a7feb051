// `weir serve` with three ranks as any gRPC program sees it: what every call does.

#include <gmock/gmock.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <limits>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "tests/integration/api.h"
#include "tests/integration/server_fixture.h"
#include "tests/monitoring/promtool.h"
#include "tests/testing/health_client.h"

namespace weir {
namespace {

using ::testing::HasSubstr;
using ::testing::IsSupersetOf;

using Code = grpc::StatusCode;

TEST_F(ServerTest, DescribesItsModel) {
  v1::ListModelsResponse response;
  ASSERT_THAT(api_->models().ListModels(Deadline().get(), {}, &response), IsOk());
  const v1::Model& model = response.models(0);
  EXPECT_EQ(model.architecture(), "llama");
  EXPECT_EQ(model.layers(), 2);
  EXPECT_EQ(model.heads(), 6);
  EXPECT_EQ(model.kv_heads(), 3);
  EXPECT_EQ(model.positions(), 4096);
  EXPECT_EQ(model.tensor_parallel(), 3);
  EXPECT_EQ(model.session_slots(), 2);
  EXPECT_EQ(model.cascade().slots(), 64);
}

TEST_F(ServerTest, SameSeedSameAnswerOtherSeedAnother) {
  v1::GenerateRequest request = GoOn("the hen and the ", 40);
  request.mutable_sampling()->set_temperature(2);
  request.mutable_sampling()->set_top_p(0.95);
  std::vector<std::string> answers;
  for (uint64_t seed : {1, 1, 2}) {
    request.mutable_sampling()->set_seed(seed);
    v1::GenerateResponse answer;
    ASSERT_THAT(api_->Generate(request, &answer), IsOk());
    EXPECT_EQ(answer.finish_reason(), v1::FINISH_REASON_MAX_TOKENS);
    EXPECT_EQ(answer.tokens_generated(), 40);
    answers.push_back(answer.text());
  }
  EXPECT_EQ(answers[0], answers[1]);
  EXPECT_NE(answers[0], answers[2]);
}

TEST_F(ServerTest, StopTextEndsAnAnswerAndIsNoPartOfIt) {
  v1::GenerateRequest request = GoOn("the hen and the ", 60);
  v1::GenerateResponse whole;
  ASSERT_THAT(api_->Generate(request, &whole), IsOk());
  // Of the whole answer, ASCII from its middle.
  std::string stop;
  for (size_t i = whole.text().size() / 2; i < whole.text().size() && stop.size() < 2; ++i) {
    if (static_cast<unsigned char>(whole.text()[i]) < 128) {
      stop += whole.text()[i];
    } else {
      stop.clear();
    }
  }
  ASSERT_FALSE(stop.empty()) << whole.text();
  request.add_stop(stop);
  v1::GenerateResponse cut;
  ASSERT_THAT(api_->Generate(request, &cut), IsOk());
  EXPECT_EQ(cut.finish_reason(), v1::FINISH_REASON_STOP_TEXT);
  EXPECT_EQ(cut.text(), whole.text().substr(0, whole.text().find(stop)));
}

TEST_F(ServerTest, LogprobsComeLikeliestFirst) {
  v1::GenerateRequest request = GoOn("the hen", 5);
  request.set_top_logprobs(3);
  v1::GenerateResponse answer;
  ASSERT_THAT(api_->Generate(request, &answer), IsOk());
  ASSERT_EQ(answer.tokens_size(), 5);
  for (const v1::GeneratedToken& token : answer.tokens()) {
    ASSERT_EQ(token.top_size(), 3);
    EXPECT_EQ(token.token().token(), token.top(0).token());  // Greedy.
    EXPECT_FLOAT_EQ(token.token().logprob(), token.top(0).logprob());
    EXPECT_GE(token.top(0).logprob(), token.top(1).logprob());
    EXPECT_GE(token.top(1).logprob(), token.top(2).logprob());
    EXPECT_LE(token.top(0).logprob(), 0);
  }
}

TEST_F(ServerTest, ScoreAfterAppendEqualsScoreOfWhatWasAppended) {
  v1::ScoreRequest request;
  request.set_text("the hen and the hen");
  std::vector<float> whole;
  ASSERT_THAT(api_->Score(request, &whole), IsOk());
  const std::string id = api_->NewSession();
  ASSERT_THAT(api_->Append(id, 0, {"the"}), IsOk());
  request.set_session_id(id);
  request.set_text(" hen and the hen");
  std::vector<float> rest;
  ASSERT_THAT(api_->Score(request, &rest), IsOk());
  EXPECT_THAT(api_->Delete(id), IsOk());
  ASSERT_GE(whole.size(), 5u);
  EXPECT_NEAR(rest.back(), whole.back(), 1e-3);
}

TEST_F(ServerTest, SessionReadsFarPastItsCacheInTheSameMemory) {
  const std::string id = api_->NewSession();
  const v1::Session before = api_->Get(id);
  std::string text;
  for (int i = 0; i < 300; ++i) absl::StrAppend(&text, "the hen ", i, " and \u20ac; ");
  v1::AppendResponse response;
  // Cut inside a character.
  const size_t cut = text.find("\u20ac") + 1;
  ASSERT_THAT(api_->Append(id, 0, {text.substr(0, cut), text.substr(cut)}, true, &response),
              IsOk());
  const v1::Session after = api_->Get(id);
  EXPECT_EQ(after.appended_bytes(), static_cast<int64_t>(text.size()));
  EXPECT_EQ(after.tokens_seen(), response.tokens_read());
  EXPECT_GT(after.tokens_seen(), 16 * 68);
  EXPECT_EQ(after.tokens_cached(), 68);
  EXPECT_EQ(after.cache_bytes(), before.cache_bytes());
  EXPECT_FALSE(after.append_open());

  v1::InspectSessionRequest inspect;
  inspect.set_session_id(id);
  const auto context = Deadline();
  const auto reader = api_->sessions().InspectSession(context.get(), inspect);
  v1::InspectSessionResponse layer;
  int layers = 0;
  while (reader->Read(&layer)) {
    EXPECT_EQ(layer.layer(), layers++);
    ASSERT_EQ(layer.heads_size(), 3);  // Of three ranks.
    for (const v1::HeadMemory& head : layer.heads()) {
      ASSERT_EQ(head.tokens_size(), 68);
      const std::set<int64_t> tokens(head.tokens().begin(), head.tokens().end());
      EXPECT_THAT(tokens, IsSupersetOf({0, 1, 2, 3}));
      EXPECT_TRUE(tokens.count(after.tokens_seen() - 1));
      EXPECT_EQ(tokens.size(), 68u);
    }
  }
  EXPECT_THAT(reader->Finish(), IsOk());
  EXPECT_EQ(layers, 2);
  EXPECT_THAT(api_->Delete(id), IsOk());
}

TEST_F(ServerTest, AppendIsIdempotentAndRefusesGaps) {
  const std::string id = api_->NewSession();
  ASSERT_THAT(api_->Append(id, 0, {"the hen ", "and"}), IsOk());
  const int64_t seen = api_->Get(id).tokens_seen();
  ASSERT_THAT(api_->Append(id, 0, {"the hen and"}), IsOk());
  EXPECT_EQ(api_->Get(id).tokens_seen(), seen);
  ASSERT_THAT(api_->Append(id, 4, {"hen and the hen"}), IsOk());
  EXPECT_EQ(api_->Get(id).appended_bytes(), 19);
  EXPECT_THAT(api_->Append(id, 1000, {"x"}), Is(Code::OUT_OF_RANGE, "go on from offset 19"));
  EXPECT_THAT(api_->Append(id, std::numeric_limits<int64_t>::max(), {"xx"}),
              Is(Code::OUT_OF_RANGE, "go on from offset 19"));
  EXPECT_THAT(api_->Append(id, -1, {"x"}), Is(Code::INVALID_ARGUMENT, "offset is -1"));
  EXPECT_EQ(api_->Get(id).appended_bytes(), 19);
  EXPECT_THAT(api_->Delete(id), IsOk());
}

TEST_F(ServerTest, BrokenAppendGoesOnWhereItBroke) {
  const std::string id = api_->NewSession();
  // A stream that closes without the end of the text, inside a character.
  const grpc::Status broken = api_->Append(id, 0, {"caf\xc3"}, /*end=*/false);
  EXPECT_NE(broken.error_code(), Code::INTERNAL) << broken.error_message();
  v1::Session session = api_->Get(id);
  EXPECT_EQ(session.appended_bytes(), 3);
  EXPECT_TRUE(session.append_open());
  EXPECT_FALSE(session.running());
  EXPECT_THAT(api_->Append(id, 3, {"\xc3", "\xa9!"}), IsOk());
  session = api_->Get(id);
  EXPECT_EQ(session.appended_bytes(), 6);
  EXPECT_FALSE(session.append_open());
  EXPECT_THAT(api_->Delete(id), IsOk());
}

TEST_F(ServerTest, HonoursDeadlinesAndCancellation) {
  EXPECT_THAT(api_->Generate(GoOn("x", 0), nullptr, Deadline(1).get()),
              Is(Code::DEADLINE_EXCEEDED, ""));
  EXPECT_THAT(api_->Generate(GoOn("x", 0), nullptr, Deadline(200).get()),
              Is(Code::DEADLINE_EXCEEDED, ""));
  std::string text;
  for (int i = 0; i < 100000; ++i) absl::StrAppend(&text, "the hen ");
  EXPECT_THAT(api_->Generate(GoOn(text, 1), nullptr, Deadline(300).get()),
              Is(Code::DEADLINE_EXCEEDED, ""));

  const std::string id = api_->NewSession();
  const auto context = Deadline();
  const auto running = api_->generation().Generate(context.get(), GoOn("the hen", 0, id));
  v1::GenerateResponse response;
  ASSERT_TRUE(running->Read(&response));
  context->TryCancel();
  EXPECT_THAT(running->Finish(), Is(Code::CANCELLED, ""));
  // The session is free again, as soon as the server has heard of it.
  grpc::Status status;
  for (int i = 0; i < 100; ++i) {
    status = api_->Generate(GoOn("and", 2, id));
    if (status.error_code() != Code::FAILED_PRECONDITION) break;
    absl::SleepFor(absl::Milliseconds(20));
  }
  EXPECT_THAT(status, IsOk());
  EXPECT_THAT(api_->Delete(id), IsOk());
  // A call's own session goes with it: TearDown looks.
  absl::SleepFor(absl::Milliseconds(500));
}

TEST_F(ServerTest, HealthAndReflectionKnowTheServices) {
  for (const char* service :
       {"", "weir.v1.SessionService", "weir.v1.GenerationService", "weir.v1.ModelService"}) {
    EXPECT_TRUE(IsServing(api_->channel(), service)) << service;
  }
  EXPECT_FALSE(IsServing(api_->channel(), "weir.v1.NoService"));

  // ServerReflectionRequest{list_services: ""}; names appear as they are in the answer.
  const std::string request("\x3a\x00", 2);
  const grpc::Slice slice(request);
  grpc::GenericStub stub(api_->channel());
  const auto context = Deadline();
  grpc::CompletionQueue queue;
  const auto call = stub.PrepareCall(
      context.get(), "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", &queue);
  void* tag = nullptr;
  bool ok = false;
  call->StartCall(nullptr);
  queue.Next(&tag, &ok);
  call->WriteLast(grpc::ByteBuffer(&slice, 1), grpc::WriteOptions(), nullptr);
  queue.Next(&tag, &ok);
  grpc::ByteBuffer response;
  call->Read(&response, nullptr);
  queue.Next(&tag, &ok);
  ASSERT_TRUE(ok);
  grpc::Slice answer;
  ASSERT_TRUE(response.DumpToSingleSlice(&answer).ok());
  const std::string names(answer.begin(), answer.end());
  for (const char* service : {"weir.v1.SessionService", "weir.v1.GenerationService",
                              "weir.v1.ModelService", "grpc.health.v1.Health"}) {
    EXPECT_THAT(names, HasSubstr(service));
  }
  grpc::Status status;
  call->Finish(&status, nullptr);
  queue.Next(&tag, &ok);
}

TEST_F(ServerTest, MetricsArePrometheusOwnAfterTraffic) {
  const std::string id = api_->NewSession();
  std::string text;
  for (int i = 0; i < 100; ++i) absl::StrAppend(&text, "the hen ", i, " and ");
  ASSERT_THAT(api_->Append(id, 0, {text}), IsOk());
  ASSERT_THAT(api_->Generate(GoOn("the hen", 20, id)), IsOk());

  // Workers' levels are looked at every second.
  const std::string leader = "http" + server_->WaitFor("worker 0: metrics at http");
  for (int i = 0; i < 500; ++i) {
    if (Scrape(leader).find("weir_engine_sessions_open 1") != std::string::npos) break;
    absl::SleepFor(absl::Milliseconds(20));
  }
  const std::string coordinator = Scrape("http" + server_->WaitFor("\nmetrics at http"));
  EXPECT_EQ(CheckWithPromtool(coordinator), 0);
  for (const char* name :
       {"weir_time_to_first_token_seconds_count", "weir_inter_token_seconds_count",
        "weir_request_seconds_count", "weir_requests_total", "weir_requests_running",
        "weir_streamed_tokens_total", "weir_coordinator_groups_ready 1",
        "weir_coordinator_workers_joined 3", "weir_coordinator_sessions 1"}) {
    EXPECT_TRUE(absl::StrContains(coordinator, absl::StrCat("\n", name))) << name;
  }
  for (int rank = 0; rank < 3; ++rank) {
    const std::string worker =
        Scrape("http" + server_->WaitFor(absl::StrCat("worker ", rank, ": metrics at http")));
    ASSERT_FALSE(worker.empty()) << rank;
    EXPECT_EQ(CheckWithPromtool(worker), 0) << rank;
    // All ranks run every step.
    for (const char* name :
         {"weir_engine_steps_total", "weir_engine_step_phase_seconds",
          "weir_engine_all_reduce_seconds_total", "weir_engine_sub_cache_accepts_total",
          "weir_engine_sub_cache_swaps_total", "weir_engine_sub_cache_drops_total",
          "weir_engine_cache_slots_filled", "weir_engine_cache_slot_capacity"}) {
      EXPECT_TRUE(absl::StrContains(worker, absl::StrCat("\n", name))) << name << rank;
    }
    if (rank > 0) continue;
    // The leader knows the calls.
    for (const char* name : {"weir_engine_queue_seconds_count", "weir_engine_prompt_tokens_total",
                             "weir_engine_generated_tokens_total", "weir_engine_runs_running",
                             "weir_engine_runs_waiting", "weir_engine_sessions_open 1",
                             "weir_engine_session_capacity 2"}) {
      EXPECT_TRUE(absl::StrContains(worker, absl::StrCat("\n", name))) << name;
    }
  }
  EXPECT_THAT(api_->Delete(id), IsOk());
}

}  // namespace
}  // namespace weir
