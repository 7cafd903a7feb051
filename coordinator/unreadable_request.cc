#include "coordinator/unreadable_request.h"

#include <grpcpp/support/interceptor.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace weir {
namespace {

using grpc::experimental::InterceptionHookPoints;
using grpc::experimental::Interceptor;
using grpc::experimental::InterceptorBatchMethods;
using grpc::experimental::ServerRpcInfo;

class Explain : public Interceptor {
 public:
  // `method`: "/weir.v1.GenerationService/Score".
  explicit Explain(absl::string_view method) : method_(method.substr(method.rfind('/') + 1)) {}

  void Intercept(InterceptorBatchMethods* methods) override {
    if (methods->QueryInterceptionHookPoint(InterceptionHookPoints::PRE_SEND_STATUS)) {
      const grpc::Status status = methods->GetSendStatus();
      // Our services end no call without a sentence.
      if (status.error_code() == grpc::StatusCode::INTERNAL && status.error_message().empty()) {
        methods->ModifySendStatus(grpc::Status(
            grpc::StatusCode::INVALID_ARGUMENT,
            absl::StrCat("the request of ", method_,
                         " cannot be read: a text in it is not valid UTF-8, or it is no ", method_,
                         "Request")));
      }
    }
    methods->Proceed();
  }

 private:
  const std::string method_;
};

class ExplainFactory : public grpc::experimental::ServerInterceptorFactoryInterface {
 public:
  Interceptor* CreateServerInterceptor(ServerRpcInfo* info) override {
    return new Explain(info->method());
  }
};

}  // namespace

std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>>
ExplainUnreadableRequests() {
  std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>> factories;
  factories.push_back(std::make_unique<ExplainFactory>());
  return factories;
}

}  // namespace weir
