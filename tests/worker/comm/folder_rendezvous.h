#ifndef WEIR_TESTS_WORKER_COMM_FOLDER_RENDEZVOUS_H_
#define WEIR_TESTS_WORKER_COMM_FOLDER_RENDEZVOUS_H_

#include <cstdio>
#include <fstream>
#include <iterator>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "worker/comm/rendezvous.h"

namespace weir {

// Lets processes meet: a file per key.
class FolderRendezvous : public Rendezvous {
 public:
  explicit FolderRendezvous(std::string folder) : folder_(std::move(folder)) {}

  absl::Status Put(const std::string& key, const std::string& value) override {
    const std::string path = Path(key);
    std::ofstream(path + ".new", std::ios::binary) << value;
    return std::rename((path + ".new").c_str(), path.c_str()) == 0
               ? absl::OkStatus()
               : absl::InternalError(absl::StrCat("cannot write ", path));
  }

  absl::StatusOr<std::string> Get(const std::string& key, absl::Duration timeout) override {
    const absl::Time deadline = absl::Now() + timeout;
    while (absl::Now() < deadline) {
      std::ifstream file(Path(key), std::ios::binary);
      if (file) return std::string(std::istreambuf_iterator<char>(file), {});
      absl::SleepFor(absl::Milliseconds(2));
    }
    return absl::DeadlineExceededError(key);
  }

 private:
  std::string Path(const std::string& key) const {
    return absl::StrCat(folder_, "/", absl::StrReplaceAll(key, {{"/", "_"}}));
  }

  std::string folder_;
};

}  // namespace weir

#endif  // WEIR_TESTS_WORKER_COMM_FOLDER_RENDEZVOUS_H_
