#include "worker/service/model_host.h"

#include <functional>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "worker/comm/gloo_communicator.h"
#include "worker/comm/nccl_communicator.h"
#include "worker/comm/single_communicator.h"
#include "worker/engine/session_capacity.h"
#include "worker/model/llama_config.h"
#include "worker/service/cascade_settings.h"

namespace weir {
namespace {

// How often the gauges follow the engine.
constexpr absl::Duration kMetricsInterval = absl::Seconds(1);
// How long calls may take to end by themselves when the group is over.
constexpr absl::Duration kEndGrace = absl::Seconds(1);

int64_t Parameters(const GgufFile& file) {
  int64_t parameters = 0;
  for (const GgufTensor& tensor : file.tensors()) {
    parameters += std::accumulate(tensor.dims.begin(), tensor.dims.end(), int64_t{1},
                                  std::multiplies<int64_t>());
  }
  return parameters;
}

// The name in the file or, without one, the file's own.
std::string ModelName(const GgufFile& file) {
  const absl::StatusOr<absl::string_view> name = file.GetStringOr("general.name", "");
  if (name.ok() && !name->empty()) return std::string(*name);
  return file.path().substr(file.path().find_last_of('/') + 1);
}

}  // namespace

absl::Status ModelHost::Load(int rank) {
  rank_.reset();  // There may not be room for two.
  RankOptions options = options_.rank;
  options.rank = rank;
  options.gpu = options_.gpu.value_or(rank);
  options.engine.observer = metrics_;
  absl::StatusOr<std::unique_ptr<Rank>> loaded = Rank::Load(options);
  if (!loaded.ok()) return loaded.status();
  rank_ = *std::move(loaded);
  chat_template_ = ChatTemplate::FromGguf(rank_->file(), rank_->tokenizer());
  return absl::OkStatus();
}

std::optional<int> ModelHost::held_rank() const {
  if (rank_ == nullptr) return std::nullopt;
  return rank_->options().rank;
}

absl::StatusOr<Engine*> ModelHost::Start(const GroupPlace& place, Rendezvous& rendezvous) {
  if (held_rank() != place.rank) {
    if (const absl::Status loaded = Load(place.rank); !loaded.ok()) return loaded;
  }
  absl::StatusOr<std::unique_ptr<Communicator>> communicator = Connect(place, rendezvous);
  if (!communicator.ok()) return communicator.status();
  communicator_ = *std::move(communicator);
  // Before the engine's thread has the communicator and the device.
  const absl::StatusOr<int64_t> fit = SessionsThatFit(*communicator_);
  if (!fit.ok()) {
    communicator_.reset();
    return fit.status();
  }
  absl::StatusOr<std::unique_ptr<Engine>> engine = rank_->StartEngine(communicator_.get());
  absl::Status joined = engine.status();
  if (joined.ok()) joined.Update((*engine)->WaitUntilJoined());
  if (!joined.ok()) {
    engine = joined;  // before its communicator
    communicator_.reset();
    return joined;
  }
  engine_ = *std::move(engine);
  if (place.rank == 0) {
    leader_.reset(new LeaderState{.engine = *engine_,
                                  .tokenizer = rank_->tokenizer(),
                                  .chat_template = chat_template_,
                                  .cascade = options_.rank.engine.cascade,
                                  .model = Describe(*fit)});
    service_->Lead(leader_.get());
  } else {
    service_->Withdraw(
        absl::UnavailableError(absl::StrCat("this worker is rank ", place.rank, " of ", place.size,
                                            " of its group; rank 0 takes the calls")),
        absl::ZeroDuration());
  }
  return engine_.get();
}

void ModelHost::OnRunning() {
  const absl::Time now = absl::Now();
  if (now >= metrics_time_ && now - metrics_time_ < kMetricsInterval) return;
  metrics_time_ = now;
  metrics_->Update(engine_->stats());
}

void ModelHost::Stop(const absl::Status& reason) {
  engine_->Abort(std::string(reason.message()));
  service_->Withdraw(reason, kEndGrace);
  leader_.reset();
  engine_.reset();
  communicator_.reset();
  metrics_->OnEngineEnd();
}

absl::StatusOr<std::unique_ptr<Communicator>> ModelHost::Connect(const GroupPlace& place,
                                                                 Rendezvous& rendezvous) {
  if (place.size == 1) return MakeSingleCommunicator();
  const GlooOptions group = {.rank = place.rank, .size = place.size, .address = options_.host};
  if (rank_->options().device != "cuda") return ConnectGlooCommunicator(group, rendezvous);
  return ConnectNcclCommunicator({.group = group,
                                  .gpu = rank_->options().gpu,
                                  .stream = rank_->backend().stream(),
                                  .log = options_.log},
                                 rendezvous);
}

absl::StatusOr<int64_t> ModelHost::SessionsThatFit(Communicator& communicator) const {
  const absl::StatusOr<RankMemory> own = rank_->MemoryForSessions();
  if (!own.ok()) return own.status();
  const absl::StatusOr<std::vector<std::string>> told =
      communicator.Gather(SerializeRankMemory(*own));
  if (!told.ok()) return told.status();
  if (communicator.rank() != 0) return 0;
  std::vector<RankMemory> ranks;
  for (const std::string& bytes : *told) {
    absl::StatusOr<RankMemory> rank = ParseRankMemory(bytes);
    if (!rank.ok()) return rank.status();
    ranks.push_back(*std::move(rank));
  }
  return rank_->options().engine.max_sessions + SessionsWithRoom(ranks);
}

v1::Model ModelHost::Describe(int64_t sessions_that_fit) const {
  const LlamaConfig& config = rank_->model_config();
  v1::Model model;
  model.set_name(ModelName(rank_->file()));
  model.set_architecture("llama");
  model.set_parameters(Parameters(rank_->file()));
  model.set_layers(config.layers);
  model.set_heads(config.query_heads);
  model.set_kv_heads(config.kv_heads);
  model.set_head_dim(config.head_dim);
  model.set_vocabulary(config.vocabulary);
  model.set_positions(config.positions);
  *model.mutable_cascade() = CascadeToProto(options_.rank.engine.cascade);
  const int ranks = rank_->options().tensor_parallel;
  model.set_session_bytes(rank_->session_bytes() * ranks);
  model.set_session_slots(rank_->options().engine.max_sessions);
  model.set_sessions_that_fit(sessions_that_fit);
  model.set_tensor_parallel(ranks);
  model.set_device(rank_->device_description());
  return model;
}

}  // namespace weir
