#include "worker/comm/gloo_communicator.h"

#include <algorithm>
#include <cassert>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "worker/comm/rank_order_sum.h"

namespace weir {
namespace {

// Up to here one exchange of everything beats two of shares (measured, 3 ranks).
constexpr int64_t kOneExchangeBytes = 16 << 10;

constexpr int64_t kMessageFloats = GlooMesh::kMaxMessageBytes / sizeof(float);

// Of Broadcast and Gather; a longer length can only be a message misread.
constexpr uint64_t kMaxStringBytes = uint64_t{1} << 30;

class GlooCommunicator : public Communicator {
 public:
  explicit GlooCommunicator(std::unique_ptr<GlooMesh> mesh)
      : mesh_(std::move(mesh)), parts_(mesh_->size()) {}

  int rank() const override { return mesh_->rank(); }
  int size() const override { return mesh_->size(); }

  absl::Status AllReduceSum(Tensor x) override {
    assert(x.type == ElementType::kFloat32);
    if (absl::Status status = mesh_->status(); !status.ok()) return status;
    const int64_t bytes = x.elements() * int64_t{sizeof(float)};
    return bytes <= kOneExchangeBytes ? SumInOneExchange(x.f32(), x.elements())
                                      : SumByShares(x.f32(), x.elements());
  }

  absl::Status AllGather(Tensor x, Tensor out) override;
  absl::Status Broadcast(std::string& bytes) override;
  absl::StatusOr<std::vector<std::string>> Gather(const std::string& bytes) override;
  absl::Status Poll() override { return mesh_->Poll(); }
  void Abort() override { mesh_->Abort(); }

 private:
  // Calls action(peer) for the others, the next rank first, so that not all ranks send to the same
  // one at once; stops at the first error.
  template <typename Action>
  absl::Status ForEachPeer(Action action) {
    for (int distance = 1; distance < size(); ++distance) {
      const absl::Status status = action((rank() + distance) % size());
      if (!status.ok()) return status;
    }
    return absl::OkStatus();
  }

  absl::Status Send(int peer, const void* data, int64_t bytes) {
    if (bytes == 0) return absl::OkStatus();
    std::memcpy(mesh_->outgoing(), data, bytes);
    return mesh_->Send(peer, bytes);
  }
  absl::Status Receive(int peer, void* data, int64_t bytes) {
    if (bytes == 0) return absl::OkStatus();
    const absl::StatusOr<const std::byte*> message = mesh_->Receive(peer);
    if (message.ok()) std::memcpy(data, *message, bytes);
    return message.status();
  }
  absl::Status SendToAll(const void* data, int64_t bytes) {
    if (bytes == 0) return absl::OkStatus();
    std::memcpy(mesh_->outgoing(), data, bytes);
    return ForEachPeer([&](int peer) { return mesh_->Send(peer, bytes); });
  }
  // x = the sum of x and of a message of as many floats from every other rank.
  absl::Status ReceiveAndSum(float* x, int64_t count);

  absl::Status SumInOneExchange(float* x, int64_t count);
  absl::Status SumByShares(float* x, int64_t count);

  // Strings of any length: their length and their beginning in one message, the rest in more.
  absl::Status SendString(absl::string_view bytes, int first_peer, int last_peer);
  absl::Status ReceiveString(int peer, std::string& bytes);

  std::unique_ptr<GlooMesh> mesh_;
  std::vector<const float*> parts_;  // by rank, of one sum
};

absl::Status GlooCommunicator::ReceiveAndSum(float* x, int64_t count) {
  if (count == 0) return absl::OkStatus();
  parts_[rank()] = x;
  const absl::Status status = ForEachPeer([&](int peer) {
    const absl::StatusOr<const std::byte*> message = mesh_->Receive(peer);
    if (message.ok()) parts_[peer] = reinterpret_cast<const float*>(*message);
    return message.status();
  });
  if (status.ok()) SumInRankOrder(parts_, count, x);
  return status;
}

absl::Status GlooCommunicator::SumInOneExchange(float* x, int64_t count) {
  const absl::Status status = SendToAll(x, count * sizeof(float));
  return status.ok() ? ReceiveAndSum(x, count) : status;
}

absl::Status GlooCommunicator::SumByShares(float* x, int64_t count) {
  // Rank r sums share r. A share goes in pieces of one message; `piece` is where they begin.
  const int64_t share = (count + size() - 1) / size();
  for (int64_t piece = 0; piece < share; piece += kMessageFloats) {
    const auto begin = [&](int owner) { return std::min(count, owner * share + piece); };
    const auto length = [&](int owner) {
      const int64_t share_end = std::min(count, (owner + 1) * share);
      return std::clamp<int64_t>(share_end - begin(owner), 0, kMessageFloats);
    };
    const int64_t own_length = length(rank());
    float* const own = x + begin(rank());

    absl::Status status = ForEachPeer(
        [&](int peer) { return Send(peer, x + begin(peer), length(peer) * sizeof(float)); });
    if (status.ok()) status = ReceiveAndSum(own, own_length);
    if (status.ok()) status = SendToAll(own, own_length * sizeof(float));
    if (!status.ok()) return status;
    status = ForEachPeer(
        [&](int peer) { return Receive(peer, x + begin(peer), length(peer) * sizeof(float)); });
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status GlooCommunicator::AllGather(Tensor x, Tensor out) {
  assert(out.type == x.type && out.rows == size() * x.rows && out.cols == x.cols);
  if (absl::Status status = mesh_->status(); !status.ok()) return status;
  const int64_t block = x.elements() * ElementBytes(x.type);
  const auto* const from = static_cast<const std::byte*>(x.data);
  auto* const to = static_cast<std::byte*>(out.data);
  for (int64_t piece = 0; piece < block; piece += GlooMesh::kMaxMessageBytes) {
    const int64_t bytes = std::min(block - piece, GlooMesh::kMaxMessageBytes);
    absl::Status status = SendToAll(from + piece, bytes);
    if (!status.ok()) return status;
    std::memcpy(to + rank() * block + piece, from + piece, bytes);
    status = ForEachPeer([&](int peer) { return Receive(peer, to + peer * block + piece, bytes); });
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status GlooCommunicator::Broadcast(std::string& bytes) {
  if (absl::Status status = mesh_->status(); !status.ok()) return status;
  return rank() == 0 ? SendString(bytes, 1, size() - 1) : ReceiveString(0, bytes);
}

absl::StatusOr<std::vector<std::string>> GlooCommunicator::Gather(const std::string& bytes) {
  if (absl::Status status = mesh_->status(); !status.ok()) return status;
  std::vector<std::string> gathered;
  if (rank() != 0) {
    const absl::Status status = SendString(bytes, 0, 0);
    if (!status.ok()) return status;
    return gathered;
  }
  gathered.resize(size());
  gathered[0] = bytes;
  for (int peer = 1; peer < size(); ++peer) {
    const absl::Status status = ReceiveString(peer, gathered[peer]);
    if (!status.ok()) return status;
  }
  return gathered;
}

absl::Status GlooCommunicator::SendString(absl::string_view bytes, int first_peer, int last_peer) {
  const uint64_t length = bytes.size();
  assert(length <= kMaxStringBytes);
  int64_t prefix = sizeof(length);
  std::memcpy(mesh_->outgoing(), &length, prefix);
  do {
    const absl::string_view piece = bytes.substr(0, GlooMesh::kMaxMessageBytes - prefix);
    std::memcpy(mesh_->outgoing() + prefix, piece.data(), piece.size());
    for (int peer = first_peer; peer <= last_peer; ++peer) {
      const absl::Status status = mesh_->Send(peer, prefix + piece.size());
      if (!status.ok()) return status;
    }
    bytes.remove_prefix(piece.size());
    prefix = 0;
  } while (!bytes.empty());
  return absl::OkStatus();
}

absl::Status GlooCommunicator::ReceiveString(int peer, std::string& bytes) {
  absl::StatusOr<const std::byte*> message = mesh_->Receive(peer);
  if (!message.ok()) return message.status();
  uint64_t length;
  std::memcpy(&length, *message, sizeof(length));
  if (length > kMaxStringBytes) {
    mesh_->Abort();
    return absl::InternalError(
        absl::StrCat("rank ", peer, " announced ", length, " bytes; ranks are out of step"));
  }
  bytes.resize(length);
  uint64_t filled = 0;
  int64_t prefix = sizeof(length);
  while (true) {
    const uint64_t piece = std::min<uint64_t>(length - filled, GlooMesh::kMaxMessageBytes - prefix);
    std::memcpy(bytes.data() + filled, *message + prefix, piece);
    filled += piece;
    if (filled == length) return absl::OkStatus();
    prefix = 0;
    message = mesh_->Receive(peer);
    if (!message.ok()) return message.status();
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<Communicator>> ConnectGlooCommunicator(const GlooOptions& options,
                                                                      Rendezvous& rendezvous) {
  absl::StatusOr<std::unique_ptr<GlooMesh>> mesh = GlooMesh::Connect(options, rendezvous);
  if (!mesh.ok()) return mesh.status();
  return std::make_unique<GlooCommunicator>(*std::move(mesh));
}

}  // namespace weir
