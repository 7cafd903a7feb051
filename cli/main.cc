#include "cli/command_line.h"
#include "cli/commands.h"
#include "google/protobuf/stubs/logging.h"

int main(int argc, char** argv) {
  // A text that is not UTF-8 is told to whoever sent it, as the call's status.
  google::protobuf::SetLogHandler(nullptr);
  weir::CommandLine line;
  weir::AddServeCommand(line);
  weir::AddCoordinatorCommand(line);
  weir::AddWorkerCommand(line);
  weir::AddGenerateCommand(line);
  weir::AddChatCommand(line);
  weir::AddAppendCommand(line);
  weir::AddScoreCommand(line);
  weir::AddInspectCommand(line);
  weir::AddSessionCommand(line);
  weir::AddTokenizeCommand(line);
  weir::AddHealthCommand(line);
  weir::AddBenchCommand(line);
  weir::AddVersionCommand(line);
  return line.Run(argc, argv);
}
