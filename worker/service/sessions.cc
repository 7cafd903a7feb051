#include "worker/service/sessions.h"

#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "worker/service/cascade_settings.h"

namespace weir {
namespace {

v1::Session ToProto(const LeaderState& leader, const HostedSessions::Entry& entry,
                    const SessionStatus& status) {
  const HostedSession& hosted = *entry.session;
  v1::Session session;
  session.set_id(hosted.id);
  session.set_model(leader.model.name());
  *session.mutable_cascade() = CascadeToProto(status.cascade);
  const int64_t created_ns = absl::ToUnixNanos(hosted.create_time);
  session.mutable_create_time()->set_seconds(created_ns / 1'000'000'000);
  session.mutable_create_time()->set_nanos(static_cast<int32_t>(created_ns % 1'000'000'000));
  session.set_tokens_seen(status.tokens_seen);
  session.set_tokens_cached(status.tokens_cached);
  // Every rank holds the same number of KV heads.
  session.set_cache_bytes(status.cache_bytes * leader.model.tensor_parallel());
  session.set_appended_bytes(hosted.text.appended_bytes());
  session.set_append_open(hosted.text.open());
  session.set_running(entry.running);
  return session;
}

void AddHead(const HeadMemory& memory, v1::HeadMemory* head) {
  head->set_kv_head(memory.kv_head);
  head->mutable_tokens()->Assign(memory.tokens.begin(), memory.tokens.end());
  head->mutable_scores()->Assign(memory.scores.begin(), memory.scores.end());
  head->mutable_sub_caches()->Assign(memory.sub_caches.begin(), memory.sub_caches.end());
}

absl::StatusOr<std::vector<int>> LayersAsked(const v1::InspectSessionRequest& request,
                                             int model_layers) {
  std::vector<int> layers(request.layers().begin(), request.layers().end());
  for (size_t i = 0; i < layers.size(); ++i) {
    if (layers[i] < 0 || layers[i] >= model_layers) {
      return absl::InvalidArgumentError(absl::StrCat(
          "layers[", i, "] is ", layers[i], "; the model has layers 0 to ", model_layers - 1));
    }
  }
  if (layers.empty()) {
    for (int layer = 0; layer < model_layers; ++layer) layers.push_back(layer);
  }
  return layers;
}

}  // namespace

absl::StatusOr<v1::Session> OpenSession(LeaderState& leader, const std::string& id,
                                        const v1::CascadeSettings& settings) {
  if (id.empty()) return absl::InvalidArgumentError("session_id is empty");
  const absl::StatusOr<CascadeConfig> cascade = CascadeFromProto(settings, leader.cascade);
  if (!cascade.ok()) return cascade.status();
  const absl::Status added =
      leader.sessions.Add(std::make_shared<HostedSession>(id, absl::Now(), leader.tokenizer));
  if (!added.ok()) return added;
  const absl::Status opened = leader.engine.OpenSession(id, *cascade);
  if (!opened.ok()) {
    leader.sessions.Remove(id);
    return opened;
  }
  return DescribeSession(leader, id);
}

absl::StatusOr<v1::Session> DescribeSession(const LeaderState& leader, const std::string& id) {
  const absl::StatusOr<HostedSessions::Entry> entry = leader.sessions.Find(id);
  if (!entry.ok()) return entry.status();
  const absl::StatusOr<SessionStatus> status = leader.engine.Describe(id);
  if (!status.ok()) return status.status();
  return ToProto(leader, *entry, *status);
}

absl::Status CloseSession(LeaderState& leader, const std::string& id) {
  // The engine first: it ends a run with a sentence. What the removal interrupts is a call that
  // waits for its client.
  const absl::Status closed = leader.engine.CloseSession(id);
  leader.sessions.Remove(id);
  return closed;
}

absl::Status InspectSession(LeaderState& leader, const v1::InspectSessionRequest& request,
                            const std::function<bool(const v1::InspectSessionResponse&)>& write) {
  const absl::StatusOr<SessionLease> lease = leader.sessions.Acquire(request.session_id());
  if (!lease.ok()) return lease.status();
  const absl::StatusOr<std::vector<int>> layers = LayersAsked(request, leader.model.layers());
  if (!layers.ok()) return layers.status();
  for (const int layer : *layers) {
    const absl::StatusOr<std::vector<HeadMemory>> memories =
        leader.engine.Inspect(request.session_id(), layer);
    if (!memories.ok()) return memories.status();
    v1::InspectSessionResponse response;
    response.set_layer(layer);
    for (const HeadMemory& memory : *memories) AddHead(memory, response.add_heads());
    if (!write(response)) return absl::CancelledError("the caller went away");
  }
  return absl::OkStatus();
}

v1::Model DescribeModel(const LeaderState& leader) {
  v1::Model model = leader.model;
  model.set_sessions_open(leader.engine.sessions_open());
  return model;
}

}  // namespace weir
