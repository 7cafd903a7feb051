// What the backend asks while its stream is stuck, as behind a collective of a lost peer.

#include <cuda_runtime.h>

#include <atomic>
#include <thread>

#include "gtest/gtest.h"
#include "kernels/likeliest.h"
#include "tests/kernels/cuda/cuda_backend_fixture.h"

namespace weir {
namespace {

class CudaWaitTest : public CudaBackendTest {
 protected:
  // The stream goes on when the check has found out that the group is over, at its third look.
  void GetStuck() {
    looks_ = 0;
    stuck_ = true;
    const auto wait = [](void* stuck) {
      while (*static_cast<std::atomic<bool>*>(stuck)) std::this_thread::yield();
    };
    ASSERT_EQ(cudaLaunchHostFunc(static_cast<cudaStream_t>(backend_->stream()), wait, &stuck_),
              cudaSuccess);
    backend_->SetWaitCheck([this] {
      if (++looks_ < 3) return absl::OkStatus();
      stuck_ = false;
      return kLost;
    });
  }
  // The backend is as before once nobody is lost any more.
  void ExpectWell() {
    backend_->SetWaitCheck(nullptr);
    EXPECT_TRUE(backend_->Synchronize().ok());
  }

  const absl::Status kLost = absl::UnavailableError("rank 1 is lost");
  std::atomic<bool> stuck_ = false;
  int looks_ = 0;
};

TEST_F(CudaWaitTest, SynchronizeReturnsWhatTheCheckSays) {
  GetStuck();
  EXPECT_EQ(backend_->Synchronize(), kLost);
  EXPECT_EQ(looks_, 3);
  ExpectWell();
}

TEST_F(CudaWaitTest, LoadingAStepAsksWhileTheUploadBeforeIsStuck) {
  const std::unique_ptr<DeviceStep> step =
      backend_->AllocateStep({.kv_heads = 1, .query_heads = 1}, 4, 1).value();
  GetStuck();
  backend_->LoadStep({1, 2}, {}, *step);
  EXPECT_EQ(looks_, 0);  // the first upload waits for none
  backend_->LoadStep({3, 4}, {}, *step);
  EXPECT_EQ(looks_, 3);
  EXPECT_EQ(backend_->Synchronize(), kLost);
  ExpectWell();
}

TEST_F(CudaWaitTest, LoadingRequestsAsksWhileTheUploadBeforeIsStuck) {
  const std::unique_ptr<DeviceRequests> requests = backend_->AllocateRequests(2, 64).value();
  const LikeliestRequest request;
  GetStuck();
  backend_->LoadRequests({&request, 1}, *requests);
  EXPECT_EQ(looks_, 0);
  backend_->LoadRequests({&request, 1}, *requests);
  EXPECT_EQ(looks_, 3);
  EXPECT_EQ(backend_->Synchronize(), kLost);
  ExpectWell();
}

}  // namespace
}  // namespace weir
