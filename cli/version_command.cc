#include <iostream>

#include "cli/commands.h"
#include "proto/version.h"

namespace weir {

void AddVersionCommand(CommandLine& line) {
  line.Add("version", "Prints the version of this program.", "weir version", [] {
    std::cout << "weir " << kVersion << "\n";
    return absl::OkStatus();
  });
}

}  // namespace weir
