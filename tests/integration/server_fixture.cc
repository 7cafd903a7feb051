#include "tests/integration/server_fixture.h"

#include <csignal>
#include <string>
#include <vector>

#include "tests/integration/small_model.h"

namespace weir {

Child* ServerTest::server_ = nullptr;
Api* ServerTest::api_ = nullptr;

void ServerTest::SetUpTestSuite() {
  std::vector<std::string> arguments = SmallServerFlags();
  arguments.insert(arguments.begin(), "serve");
  for (const char* flag : {"--tensor-parallel=3", "--port=0", "--metrics-port=0"}) {
    arguments.push_back(flag);
  }
  server_ = new Child(arguments);
  const std::string address = server_->WaitFor("serving gRPC on ");
  ASSERT_FALSE(address.empty()) << server_->output();
  api_ = new Api(address);
}

void ServerTest::TearDownTestSuite() {
  server_->Signal(SIGTERM);
  EXPECT_EQ(server_->Wait(), 0) << server_->output();
  delete api_;
  delete server_;
}

void ServerTest::TearDown() {
  v1::ListModelsResponse models;
  ASSERT_THAT(api_->models().ListModels(Deadline().get(), {}, &models), IsOk());
  ASSERT_EQ(models.models_size(), 1);
  EXPECT_EQ(models.models(0).sessions_open(), 0);
  EXPECT_THAT(api_->Generate(GoOn("the hen", 2)), IsOk());
}

}  // namespace weir
