#ifndef WEIR_COORDINATOR_UNREADABLE_REQUEST_H_
#define WEIR_COORDINATOR_UNREADABLE_REQUEST_H_

#include <grpcpp/support/server_interceptor.h>

#include <memory>
#include <vector>

namespace weir {

// For ServerBuilder::experimental().SetInterceptorCreators: a request that cannot be parsed, which
// gRPC itself ends with INTERNAL and no words before any service sees it, ends with
// INVALID_ARGUMENT and a sentence. The usual cause is a text that is not UTF-8.
std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>>
ExplainUnreadableRequests();

}  // namespace weir

#endif  // WEIR_COORDINATOR_UNREADABLE_REQUEST_H_
