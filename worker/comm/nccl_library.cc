#include "worker/comm/nccl_library.h"

#include <dlfcn.h>

#include <cstdlib>
#include <string>
#include <type_traits>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace weir {
namespace {

constexpr char kFile[] = "libnccl.so.2";
// The first version that has ncclAlltoAll.
constexpr int kLeastVersion = NCCL_VERSION(2, 28, 0);

// `version` as ncclGetVersion gives it. Up to 2.8 it had one digit less.
std::string VersionName(int version) {
  const int major_unit = version < 10000 ? 1000 : 10000;
  return absl::StrCat(version / major_unit, ".", version % major_unit / 100, ".", version % 100);
}

// No multicast over NVLink, which needs more of a host than peer access. Connections are made when
// the group is, not in the midst of a capture, and a captured tensor is not mapped by other ranks.
void Configure() {
  setenv("NCCL_NVLS_ENABLE", "0", /*overwrite=*/0);
  setenv("NCCL_RUNTIME_CONNECT", "0", /*overwrite=*/0);
  setenv("NCCL_GRAPH_REGISTER", "0", /*overwrite=*/0);
}

}  // namespace

absl::StatusOr<NcclLibrary> OpenNccl(const std::string& file) {
  void* library = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    return absl::NotFoundError(
        absl::StrCat("NCCL is missing, which joins ranks on GPUs (", dlerror(), "): put ", kFile,
                     " into lib/ beside the executable, or use one GPU or --device=cpu"));
  }
  NcclLibrary functions = {};
  std::string missing;
  const auto find = [&](auto& function, const char* name) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(library, name));
    if (function == nullptr) missing = name;
  };
  // First, since it tells why others are missing.
  find(functions.GetVersion, "ncclGetVersion");
  int version = 0;
  if (functions.GetVersion != nullptr && functions.GetVersion(&version) == ncclSuccess &&
      version < kLeastVersion) {
    return absl::NotFoundError(absl::StrCat(file, " is NCCL ", VersionName(version),
                                            ", and ranks on GPUs need ", VersionName(kLeastVersion),
                                            " or newer"));
  }
  find(functions.AllGather, "ncclAllGather");
  find(functions.AllReduce, "ncclAllReduce");
  find(functions.AlltoAll, "ncclAlltoAll");
  find(functions.CommAbort, "ncclCommAbort");
  find(functions.CommGetAsyncError, "ncclCommGetAsyncError");
  find(functions.CommInitRankConfig, "ncclCommInitRankConfig");
  find(functions.GetErrorString, "ncclGetErrorString");
  find(functions.GetLastError, "ncclGetLastError");
  find(functions.GetUniqueId, "ncclGetUniqueId");
  if (!missing.empty()) {
    return absl::NotFoundError(
        absl::StrCat(file, " has no function ", missing, ": it is not the NCCL that Weir needs"));
  }
  return functions;
}

absl::StatusOr<const NcclLibrary*> LoadNccl() {
  static const auto& loaded = *new absl::StatusOr<NcclLibrary>([] {
    Configure();
    return OpenNccl(kFile);
  }());
  if (!loaded.ok()) return loaded.status();
  return &*loaded;
}

}  // namespace weir
