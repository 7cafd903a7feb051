#ifndef WEIR_CLI_INPUT_H_
#define WEIR_CLI_INPUT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/client.h"

namespace weir {

// A text from a file or, for "-", from standard input, piece by piece: it may be longer than
// memory.
class TextInput {
 public:
  static absl::StatusOr<std::unique_ptr<TextInput>> Open(const std::string& path);
  ~TextInput();

  // The next piece, at most 64 KiB; empty at the end.
  absl::StatusOr<std::string> Next();
  // Bytes of the whole text; -1 where it cannot be known before the end.
  int64_t size() const { return size_; }

 private:
  TextInput(int file_descriptor, std::string path, int64_t size);

  const int file_descriptor_;
  const std::string path_;
  const int64_t size_;
};

// The whole text of a file or of standard input.
absl::StatusOr<std::string> ReadText(const std::string& path);

// Appends the text at `path` to a session, showing progress on a terminal.
absl::StatusOr<v1::AppendResponse> AppendText(Client& client, const std::string& session,
                                              const std::string& path);

}  // namespace weir

#endif  // WEIR_CLI_INPUT_H_
