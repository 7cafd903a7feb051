#ifndef WEIR_TESTS_TESTING_HEALTH_CLIENT_H_
#define WEIR_TESTS_TESTING_HEALTH_CLIENT_H_

#include <grpcpp/channel.h>

#include <memory>
#include <string>

namespace weir {

// Whether grpc.health.v1 says that `service` is SERVING; empty: the whole server. False also for a
// service that it does not know and for a server that cannot be reached.
bool IsServing(const std::shared_ptr<grpc::Channel>& channel, const std::string& service);

}  // namespace weir

#endif  // WEIR_TESTS_TESTING_HEALTH_CLIENT_H_
