// The subcommands of `tandem`. Each file cli/<name>.cc adds one: its flags, its help, and what it does.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>

#include "absl/status/status.h"

namespace tandem::cli {

// Exit codes of every command.
inline constexpr int kExitOk = 0;
inline constexpr int kExitFailure = 1;        // the message is on standard error
inline constexpr int kExitUsage = 2;          // wrong flags or arguments
inline constexpr int kExitInterrupted = 130;  // Ctrl-C

// What main runs after parsing: set by the callback of the subcommand that was named. A kCancelled status means Ctrl-C.
using Action = std::function<absl::Status()>;

void AddUp(CLI::App& app, Action* action);
void AddJoin(CLI::App& app, Action* action);
void AddGenerate(CLI::App& app, Action* action);
void AddChat(CLI::App& app, Action* action);
void AddEmbed(CLI::App& app, Action* action);
void AddBench(CLI::App& app, Action* action);
void AddStatus(CLI::App& app, Action* action);
void AddPlan(CLI::App& app, Action* action);
void AddInspect(CLI::App& app, Action* action);
void AddTokenize(CLI::App& app, Action* action);
void AddDetokenize(CLI::App& app, Action* action);
void AddTemplate(CLI::App& app, Action* action);
void AddLogits(CLI::App& app, Action* action);
void AddMakeModel(CLI::App& app, Action* action);
void AddPerplexity(CLI::App& app, Action* action);
void AddQuantize(CLI::App& app, Action* action);

}  // namespace tandem::cli
