// The `tandem` command: everything a person does with Tandem.
#include <cstdio>
#include <string>

#include <CLI/CLI.hpp>

#include "cli/command.h"
#include "proto/support/channel.h"

int main(int argc, char** argv) {
  using namespace tandem::cli;  // NOLINT: the commands of this program
  tandem::proto_support::PrepareGrpc();

  CLI::App app{"Tandem runs one large quantised language model on several ordinary computers.", "tandem"};
  app.set_version_flag("--version", "tandem " TANDEM_VERSION);
  app.set_config("--config", "",
                 "Read flags from a TOML file, a table for each command ([generate]); flags on the command line win");
  app.allow_config_extras(CLI::config_extras_mode::error);
  app.require_subcommand(1);
  app.footer(
      "Two machines:  tandem up MODEL.gguf --listen 0.0.0.0:7070 --insecure   prints the line for the other one.\n"
      "One machine:   tandem generate --model MODEL.gguf --local 2 \"Once upon a time\"\n"
      "Exit codes: 0 done, 1 failed (the reason is on standard error), 2 wrong usage, 130 interrupted.");

  Action action;
  AddUp(app, &action);
  AddJoin(app, &action);
  AddGenerate(app, &action);
  AddChat(app, &action);
  AddEmbed(app, &action);
  AddBench(app, &action);
  AddStatus(app, &action);
  AddPlan(app, &action);
  AddInspect(app, &action);
  AddTokenize(app, &action);
  AddDetokenize(app, &action);
  AddTemplate(app, &action);
  AddLogits(app, &action);
  AddMakeModel(app, &action);
  AddPerplexity(app, &action);
  AddQuantize(app, &action);

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kExitOk : kExitUsage;
  }

  absl::Status status = action();
  if (status.ok() && (std::fflush(stdout) != 0 || std::ferror(stdout) != 0)) {
    status = absl::UnavailableError("cannot write all of the output to standard output");
  }
  if (status.ok()) return kExitOk;
  if (absl::IsCancelled(status)) return kExitInterrupted;
  const std::string message(status.message());
  std::fprintf(stderr, "tandem: %s\n",
               message.empty() ? absl::StatusCodeToString(status.code()).c_str() : message.c_str());
  return absl::IsOutOfRange(status) ? kExitUsage : kExitFailure;
}
