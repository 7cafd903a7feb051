#include "coordinator/model_service.h"

#include <memory>

#include "coordinator/leader.h"
#include "weir/worker/v1/worker.grpc.pb.h"

namespace weir {
namespace {

// Adds what one group serves to `models`.
void Merge(v1::Model model, v1::ListModelsResponse* response) {
  for (v1::Model& other : *response->mutable_models()) {
    if (other.name() != model.name()) continue;
    other.set_session_slots(other.session_slots() + model.session_slots());
    other.set_sessions_that_fit(other.sessions_that_fit() + model.sessions_that_fit());
    other.set_sessions_open(other.sessions_open() + model.sessions_open());
    return;
  }
  *response->add_models() = std::move(model);
}

}  // namespace

grpc::Status ModelService::ListModels(grpc::ServerContext* context, const v1::ListModelsRequest*,
                                      v1::ListModelsResponse* response) {
  RequestRecord record(metrics_, "ListModels", context);
  response->set_version(version_);
  for (std::shared_ptr<Leader>& leader : router_->leaders()) {
    LeaderCall call(leader, *context);
    worker::v1::DescribeModelResponse described;
    const grpc::Status status = call.Result(
        call.stub()->DescribeModel(call.context(), worker::v1::DescribeModelRequest(), &described));
    if (status.error_code() == grpc::StatusCode::UNAVAILABLE) continue;  // Lost a moment ago.
    if (!status.ok()) return record.End(status);
    Merge(std::move(*described.mutable_model()), response);
  }
  return record.End(grpc::Status::OK);
}

}  // namespace weir
