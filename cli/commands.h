#ifndef WEIR_CLI_COMMANDS_H_
#define WEIR_CLI_COMMANDS_H_

#include "cli/command_line.h"

namespace weir {

// The sub-commands of `weir`, each in its own file.

// Servers.
void AddServeCommand(CommandLine& line);
void AddCoordinatorCommand(CommandLine& line);
void AddWorkerCommand(CommandLine& line);

// Clients.
void AddGenerateCommand(CommandLine& line);
void AddChatCommand(CommandLine& line);
void AddAppendCommand(CommandLine& line);
void AddScoreCommand(CommandLine& line);
void AddInspectCommand(CommandLine& line);
void AddSessionCommand(CommandLine& line);
void AddTokenizeCommand(CommandLine& line);
void AddHealthCommand(CommandLine& line);

// Neither.
void AddBenchCommand(CommandLine& line);
void AddVersionCommand(CommandLine& line);

}  // namespace weir

#endif  // WEIR_CLI_COMMANDS_H_
