#include "kernels/cuda/peers/kept_memory.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstddef>

#include "gtest/gtest.h"
#include "kernels/cuda/peers/process_identity.h"

namespace weir {
namespace {

// A child that does nothing, and tells who it is.
class Child {
 public:
  Child() {
    int ends[2];
    EXPECT_EQ(pipe(ends), 0);
    pid_ = fork();
    if (pid_ == 0) {
      const ProcessIdentity identity = IdentifyProcess();
      const bool told = write(ends[1], &identity, sizeof(identity)) == sizeof(identity);
      while (told) pause();
      _exit(1);
    }
    EXPECT_EQ(read(ends[0], &identity_, sizeof(identity_)),
              static_cast<ssize_t>(sizeof(identity_)));
    close(ends[0]);
    close(ends[1]);
  }
  ~Child() {
    kill(pid_, SIGKILL);
    Reap();
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  const ProcessIdentity& identity() const { return identity_; }
  // Until it is a zombie.
  void Kill() {
    kill(pid_, SIGKILL);
    siginfo_t info;
    EXPECT_EQ(waitid(P_PID, pid_, &info, WEXITED | WNOWAIT), 0);
  }
  void Stop() {
    kill(pid_, SIGSTOP);
    siginfo_t info;
    EXPECT_EQ(waitid(P_PID, pid_, &info, WSTOPPED | WNOWAIT), 0);
  }
  void Reap() {
    if (!reaped_) waitpid(pid_, nullptr, 0);
    reaped_ = true;
  }

 private:
  pid_t pid_ = 0;
  bool reaped_ = false;
  ProcessIdentity identity_;
};

TEST(ProcessIdentityTest, AProcessHasEndedOnceItIsKilled) {
  Child child;
  EXPECT_NE(child.identity().random, 0u);
  EXPECT_FALSE(child.identity() == ThisProcess());
  EXPECT_FALSE(HasEnded(ThisProcess()));
  EXPECT_FALSE(HasEnded(child.identity()));
  child.Stop();
  EXPECT_FALSE(HasEnded(child.identity()));
  child.Kill();
  EXPECT_TRUE(HasEnded(child.identity()));
  child.Reap();
  EXPECT_TRUE(HasEnded(child.identity()));
}

TEST(ProcessIdentityTest, NothingIsSaidOfOneThatCannotBeAskedFor) {
  ProcessIdentity elsewhere = ThisProcess();
  elsewhere.pid = 1 << 30;
  EXPECT_TRUE(HasEnded(elsewhere));
  elsewhere.pid_namespace[0] = 'x';
  EXPECT_FALSE(HasEnded(elsewhere));
  ProcessIdentity unknown = ThisProcess();
  unknown.pid = 1 << 30;
  unknown.started = 0;
  EXPECT_FALSE(HasEnded(unknown));
  // The number of an ended process has been given to another.
  ProcessIdentity before = ThisProcess();
  ++before.started;
  EXPECT_TRUE(HasEnded(before));
}

std::byte* At(int number) {
  return reinterpret_cast<std::byte*>(static_cast<size_t>(number) << 21);
}

ProcessIdentity Elsewhere(uint64_t random) { return {.random = random}; }

TEST(KeptMemoryTest, GivesMemoryOfTheSizeAndDeviceThatIsAskedFor) {
  KeptMemory kept;
  EXPECT_EQ(kept.Take(0, 100), nullptr);
  kept.Keep(0, 100, At(1), {});
  kept.Keep(1, 100, At(2), {});
  kept.Keep(0, 200, At(3), {});
  EXPECT_EQ(kept.Take(1, 100), At(2));
  EXPECT_EQ(kept.Take(1, 100), nullptr);
  EXPECT_EQ(kept.Take(0, 200), At(3));
  EXPECT_EQ(kept.Take(0, 100), At(1));
  EXPECT_EQ(kept.Take(0, 100), nullptr);
}

TEST(KeptMemoryTest, WaitsForWritersThatHaveNotReturned) {
  KeptMemory kept;
  kept.Keep(0, 100, At(1), {Elsewhere(1), Elsewhere(2)});
  EXPECT_EQ(kept.Take(0, 100), nullptr);
  kept.Returned(Elsewhere(3));
  kept.Returned(Elsewhere(1));
  EXPECT_EQ(kept.Take(0, 100), nullptr);
  // Meanwhile there may be more of it.
  kept.Keep(0, 100, At(2), {Elsewhere(2)});
  EXPECT_EQ(kept.Take(0, 100), nullptr);
  kept.Returned(Elsewhere(2));
  EXPECT_EQ(kept.Take(0, 100), At(1));
  EXPECT_EQ(kept.Take(0, 100), At(2));
}

TEST(KeptMemoryTest, WaitsForAStoppedWriterUntilItHasEnded) {
  Child child;
  KeptMemory kept;
  kept.Keep(0, 100, At(1), {child.identity()});
  child.Stop();
  EXPECT_EQ(kept.Take(0, 100), nullptr);
  child.Kill();
  EXPECT_EQ(kept.Take(0, 100), At(1));
}

}  // namespace
}  // namespace weir
