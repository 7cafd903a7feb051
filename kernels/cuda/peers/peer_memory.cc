#include "kernels/cuda/peers/peer_memory.h"

#include <cuda_runtime.h>

#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "kernels/cuda/common/cuda_status.h"
#include "kernels/cuda/peers/kept_memory.h"
#include "kernels/cuda/peers/process_identity.h"
#include "kernels/cuda/peers/random_number.h"
#include "kernels/host_boot.h"

namespace weir {
namespace {

// Memory that is exported is a whole allocation of the driver's, which go by 2 MiB.
constexpr int64_t kAllocationBytes = 2 << 20;

struct Card {
  uint64_t magic = 0x5745'4952'4341'5244;  // "WEIRCARD"
  char host[40] = {};                      // of this start of this host
  ProcessIdentity process;
  uint64_t nonce = 0;
  int32_t device = 0;  // as the process numbers it
  int32_t exported = 0;
  cudaUUID_t gpu = {};
  void* data = nullptr;  // in the process
  cudaIpcMemHandle_t handle = {};
};

absl::StatusOr<Card> ReadCard(absl::string_view bytes) {
  Card card;
  const uint64_t magic = card.magic;
  if (bytes.size() != sizeof(card)) {
    return absl::InvalidArgumentError(
        absl::StrCat("a GPU's card has ", bytes.size(), " bytes instead of ", sizeof(card)));
  }
  std::memcpy(&card, bytes.data(), sizeof(card));
  if (card.magic != magic) return absl::InvalidArgumentError("not a GPU's card");
  return card;
}

std::string GpuName(const cudaUUID_t& gpu) {
  std::string name = "GPU";
  for (int i = 0; i < 16; ++i) {
    const bool new_part = i == 0 || i == 4 || i == 6 || i == 8 || i == 10;
    absl::StrAppendFormat(&name, "%s%02x", new_part ? "-" : "",
                          static_cast<unsigned char>(gpu.bytes[i]));
  }
  return name;
}

}  // namespace

absl::StatusOr<std::unique_ptr<PeerMemory>> PeerMemory::Create(int device, int64_t bytes) {
  std::unique_ptr<PeerMemory> memory(new PeerMemory(device));
  memory->bytes_ = (bytes + kAllocationBytes - 1) / kAllocationBytes * kAllocationBytes;
  cudaError_t error = cudaSetDevice(device);
  if (error != cudaSuccess) return CudaStatus(error, absl::StrCat("cannot use GPU ", device));
  memory->data_ = KeptMemory::OfThisProcess().Take(device, memory->bytes_);
  if (memory->data_ == nullptr) {
    void* data = nullptr;
    error = cudaMalloc(&data, memory->bytes_);
    if (error != cudaSuccess) {
      return CudaStatus(
          error, absl::StrCat("memory for other GPUs to write to, ", memory->bytes_, " bytes"));
    }
    memory->data_ = static_cast<std::byte*>(data);
  }

  Card card;
  HostBootId().copy(card.host, sizeof(card.host) - 1);
  card.process = ThisProcess();
  card.nonce = RandomNumber();
  card.device = device;
  card.data = memory->data_;
  cudaDeviceProp properties;
  error = cudaGetDeviceProperties(&properties, device);
  if (error != cudaSuccess) return CudaStatus(error, absl::StrCat("cannot ask GPU ", device));
  card.gpu = properties.uuid;
  // Threads of this process can do without.
  card.exported = cudaIpcGetMemHandle(&card.handle, memory->data_) == cudaSuccess;
  if (card.exported == 0) (void)cudaGetLastError();
  memory->card_.assign(reinterpret_cast<const char*>(&card), sizeof(card));
  return memory;
}

PeerMemory::~PeerMemory() {
  if (abandoned_) return;
  (void)cudaSetDevice(device_);
  for (void* memory : opened_) (void)cudaIpcCloseMemHandle(memory);
  if (data_ == nullptr) return;
  KeptMemory::OfThisProcess().Keep(device_, bytes_, data_, peers_);
}

absl::StatusOr<std::byte*> PeerMemory::Open(absl::string_view card) {
  const absl::StatusOr<Card> here = ReadCard(card_);
  const absl::StatusOr<Card> there = ReadCard(card);
  if (!here.ok()) return here.status();
  if (!there.ok()) return there.status();
  const std::string between =
      absl::StrCat(GpuName(here->gpu), " cannot reach the memory of ", GpuName(there->gpu));
  if (std::memcmp(here->host, there->host, sizeof(here->host)) != 0) {
    return absl::FailedPreconditionError(absl::StrCat(between, ", which is in another host"));
  }
  if (cudaError_t error = cudaSetDevice(device_); error != cudaSuccess) {
    return CudaStatus(error, between);
  }
  if (there->process == here->process) {
    if (there->device != device_) {
      const cudaError_t error = cudaDeviceEnablePeerAccess(there->device, 0);
      if (error != cudaSuccess) (void)cudaGetLastError();
      if (error != cudaSuccess && error != cudaErrorPeerAccessAlreadyEnabled) {
        return absl::FailedPreconditionError(
            absl::StrCat(between, ": ", cudaGetErrorString(error)));
      }
    }
    return static_cast<std::byte*>(there->data);
  }
  if (there->exported == 0) {
    return absl::FailedPreconditionError(
        absl::StrCat(between, ", which its driver does not share between processes"));
  }
  // Whoever shows its memory may map this one's, whether or not this one can map the other's.
  peers_.push_back(there->process);
  KeptMemory::OfThisProcess().Returned(there->process);
  void* opened = nullptr;
  const cudaError_t error =
      cudaIpcOpenMemHandle(&opened, there->handle, cudaIpcMemLazyEnablePeerAccess);
  if (error != cudaSuccess) {
    (void)cudaGetLastError();
    return absl::FailedPreconditionError(absl::StrCat(between, ": ", cudaGetErrorString(error)));
  }
  opened_.push_back(opened);
  return static_cast<std::byte*>(opened);
}

absl::StatusOr<std::string> GpuOfCard(absl::string_view card) {
  const absl::StatusOr<Card> read = ReadCard(card);
  if (!read.ok()) return read.status();
  return GpuName(read->gpu);
}

absl::StatusOr<uint64_t> NonceOfCard(absl::string_view card) {
  const absl::StatusOr<Card> read = ReadCard(card);
  if (!read.ok()) return read.status();
  return read->nonce;
}

}  // namespace weir
