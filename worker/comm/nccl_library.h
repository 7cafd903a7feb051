#ifndef WEIR_WORKER_COMM_NCCL_LIBRARY_H_
#define WEIR_WORKER_COMM_NCCL_LIBRARY_H_

#include <nccl.h>

#include <string>

#include "absl/status/statusor.h"

namespace weir {

// The functions of NCCL that Weir calls, by their own names, found in the shared library when they
// are first needed. Linking it instead would keep an executable from starting on a machine without
// NCCL, which one GPU does not need.
struct NcclLibrary {
  decltype(&ncclAllGather) AllGather;
  decltype(&ncclAllReduce) AllReduce;
  decltype(&ncclAlltoAll) AlltoAll;
  decltype(&ncclCommAbort) CommAbort;
  decltype(&ncclCommGetAsyncError) CommGetAsyncError;
  decltype(&ncclCommInitRankConfig) CommInitRankConfig;
  decltype(&ncclGetErrorString) GetErrorString;
  decltype(&ncclGetLastError) GetLastError;
  decltype(&ncclGetUniqueId) GetUniqueId;
  decltype(&ncclGetVersion) GetVersion;
};

// Loads libnccl.so.2, once in a process: from the toolkit that the executable was built with, from
// lib/ beside it, or from where the system has it. Before that, sets what is not set yet of the
// environment variables by which NCCL is configured. NOT_FOUND where there is none or one
// that is too old. Thread-safe.
absl::StatusOr<const NcclLibrary*> LoadNccl();

// The functions in the shared library `file`, which is never closed. Errors as LoadNccl.
absl::StatusOr<NcclLibrary> OpenNccl(const std::string& file);

}  // namespace weir

#endif  // WEIR_WORKER_COMM_NCCL_LIBRARY_H_
