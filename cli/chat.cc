// `tandem chat`: a conversation in the terminal.
#include <unistd.h>

#include <cstdio>
#include <iostream>
#include <memory>
#include <string>

#include "cli/answer_printer.h"
#include "cli/command.h"
#include "cli/generation_flags.h"
#include "cli/line_input.h"
#include "cli/text_model.h"
#include "engine/base/interrupt.h"
#include "engine/base/status_macros.h"

namespace tandem::cli {
namespace {

struct Flags {
  TextModelFlags model;
  GenerationFlags generation;
  std::string system;
};

void AddMessage(v1::ChatMessages* chat, const char* role, const std::string& content) {
  v1::ChatMessage& message = *chat->add_messages();
  message.set_role(role);
  message.set_content(content);
}

v1::ChatMessages NewConversation(const Flags& flags) {
  v1::ChatMessages chat;
  if (!flags.system.empty()) AddMessage(&chat, "system", flags.system);
  return chat;
}

absl::Status Run(const Flags& flags) {
  Interrupt interrupt;
  v1::GenerateRequest request;
  TANDEM_RETURN_IF_ERROR(ApplyGenerationFlags(flags.generation, &request));
  TANDEM_ASSIGN_OR_RETURN(const std::unique_ptr<TextModel> model, OpenTextModel(flags.model));
  const bool terminal = isatty(STDIN_FILENO) != 0;
  if (terminal)
    std::fputs("Type a message and Enter. Ctrl-C ends an answer, /clear starts over, /quit or Ctrl-D ends.\n", stderr);

  *request.mutable_chat() = NewConversation(flags);
  LineInput input(interrupt);
  std::string line;
  while (true) {
    if (terminal) std::fputs("\n> ", stderr);
    if (!input.Read(&line)) break;
    if (line.empty()) continue;
    if (line == "/quit") break;
    if (line == "/clear") {
      *request.mutable_chat() = NewConversation(flags);
      continue;
    }
    if (terminal && line[0] == '/') {
      std::fprintf(stderr, "%s is no command; there are /clear and /quit\n", line.c_str());
      continue;
    }
    AddMessage(request.mutable_chat(), "user", line);
    AnswerPrinter printer(PrintMode::kText, /*quiet=*/!terminal);
    const absl::Status status = model->Generate(
        request, interrupt, [&printer](const v1::GenerateResponse& response) { printer.Print(response); });
    printer.Finish();
    if (absl::IsCancelled(status) && terminal) {
      // Ctrl-C ends the answer, not the conversation, which keeps what was said of it.
      interrupt.Reset();
      AddMessage(request.mutable_chat(), "assistant", printer.text());
      continue;
    }
    if (!status.ok()) {
      if (!terminal) return status;
      // The conversation goes on without the message that failed.
      std::fprintf(stderr, "tandem: %s\n", std::string(status.message()).c_str());
      request.mutable_chat()->mutable_messages()->RemoveLast();
      continue;
    }
    AddMessage(request.mutable_chat(), "assistant", printer.text());
  }
  if (terminal) std::fputc('\n', stderr);
  return interrupt.requested() ? absl::CancelledError("interrupted") : absl::OkStatus();
}

}  // namespace

void AddChat(CLI::App& app, Action* action) {
  CLI::App* command = app.add_subcommand("chat", "Talk with the model in the terminal, over several turns");
  auto flags = std::make_shared<Flags>();
  command->add_option("--system", flags->system, "System message at the start of the conversation");
  AddTextModelFlags(*command, &flags->model);
  AddGenerationFlags(*command, &flags->generation);
  command->callback([flags, action] { *action = [flags] { return Run(*flags); }; });
}

}  // namespace tandem::cli
