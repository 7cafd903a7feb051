#ifndef WEIR_COORDINATOR_MODEL_SERVICE_H_
#define WEIR_COORDINATOR_MODEL_SERVICE_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/status.h>

#include <string>
#include <utility>

#include "coordinator/request_metrics.h"
#include "coordinator/router.h"
#include "weir/v1/model.grpc.pb.h"

namespace weir {

// The public ModelService. Groups that serve the same model appear as one, with the sessions of
// all.
class ModelService final : public v1::ModelService::Service {
 public:
  // `router` and `metrics` outlive the service. `version` is the server's.
  ModelService(Router* router, RequestMetrics* metrics, std::string version)
      : router_(router), metrics_(metrics), version_(std::move(version)) {}

  grpc::Status ListModels(grpc::ServerContext* context, const v1::ListModelsRequest* request,
                          v1::ListModelsResponse* response) override;

 private:
  Router* const router_;
  RequestMetrics* const metrics_;
  const std::string version_;
};

}  // namespace weir

#endif  // WEIR_COORDINATOR_MODEL_SERVICE_H_
