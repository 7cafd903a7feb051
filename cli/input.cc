#include "cli/input.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "cli/terminal.h"

namespace weir {
namespace {

constexpr size_t kPieceBytes = 64 * 1024;

absl::Status FileError(const std::string& path) {
  return absl::NotFoundError(absl::StrCat("cannot read ", path, ": ", std::strerror(errno)));
}

}  // namespace

TextInput::TextInput(int file_descriptor, std::string path, int64_t size)
    : file_descriptor_(file_descriptor), path_(std::move(path)), size_(size) {}

absl::StatusOr<std::unique_ptr<TextInput>> TextInput::Open(const std::string& path) {
  if (path == "-") {
    return std::unique_ptr<TextInput>(new TextInput(STDIN_FILENO, "standard input", -1));
  }
  const int file_descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file_descriptor < 0) return FileError(path);
  struct stat status = {};
  const bool sized = fstat(file_descriptor, &status) == 0 && S_ISREG(status.st_mode);
  return std::unique_ptr<TextInput>(
      new TextInput(file_descriptor, path, sized ? static_cast<int64_t>(status.st_size) : -1));
}

TextInput::~TextInput() {
  if (file_descriptor_ != STDIN_FILENO) close(file_descriptor_);
}

absl::StatusOr<std::string> TextInput::Next() {
  std::string piece(kPieceBytes, '\0');
  ssize_t count;
  do {
    count = read(file_descriptor_, piece.data(), piece.size());
  } while (count < 0 && errno == EINTR && !Interrupted());
  if (count < 0) return Interrupted() ? absl::CancelledError("interrupted") : FileError(path_);
  piece.resize(static_cast<size_t>(count));
  return piece;
}

absl::StatusOr<std::string> ReadText(const std::string& path) {
  absl::StatusOr<std::unique_ptr<TextInput>> input = TextInput::Open(path);
  if (!input.ok()) return input.status();
  std::string text;
  while (true) {
    absl::StatusOr<std::string> piece = (*input)->Next();
    if (!piece.ok()) return piece.status();
    if (piece->empty()) return text;
    text += *piece;
  }
}

absl::StatusOr<v1::AppendResponse> AppendText(Client& client, const std::string& session,
                                              const std::string& path) {
  absl::StatusOr<std::unique_ptr<TextInput>> input = TextInput::Open(path);
  if (!input.ok()) return input.status();
  Progress progress;
  const int64_t size = (*input)->size();
  return client.Append(
      session, [&] { return (*input)->Next(); },
      [&](int64_t sent) {
        const double rate = sent / 1024.0 / progress.seconds();
        progress.Show(size > 0 ? absl::StrFormat("reading %s: %d%% of %s, %.0f KiB/s", path,
                                                 100 * sent / size, Bytes(size), rate)
                               : absl::StrFormat("reading: %s, %.0f KiB/s", Bytes(sent), rate));
      });
}

}  // namespace weir
