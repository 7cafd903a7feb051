#ifndef WEIR_WORKER_SERVICE_LEADER_STATE_H_
#define WEIR_WORKER_SERVICE_LEADER_STATE_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/cascade_config.h"
#include "weir/v1/model.pb.h"
#include "weir/v1/session.pb.h"
#include "worker/engine/engine.h"
#include "worker/model/chat_template.h"
#include "worker/model/tokenizer.h"
#include "worker/service/hosted_sessions.h"

namespace weir {

// What the leader of a group serves calls with, for one generation of the group. The calls are
// functions in the files beside this one, free of gRPC: append.h, generate.h, score.h, sessions.h.
// They may run at the same time.
struct LeaderState {
  // All outlive the leader.
  Engine& engine;
  const Tokenizer& tokenizer;
  // Or why the model has none.
  const absl::StatusOr<ChatTemplate>& chat_template;

  // The settings of a session that asks for none.
  CascadeConfig cascade;
  // The model as the API shows it, but for what changes.
  v1::Model model;

  HostedSessions sessions = {};
};

}  // namespace weir

#endif  // WEIR_WORKER_SERVICE_LEADER_STATE_H_
