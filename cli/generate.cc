// `tandem generate`: one answer, streamed.
#include <unistd.h>

#include <iostream>
#include <iterator>
#include <memory>
#include <string>

#include "cli/answer_printer.h"
#include "cli/command.h"
#include "cli/generation_flags.h"
#include "cli/text_model.h"
#include "cli/token_ids.h"
#include "engine/base/interrupt.h"
#include "engine/base/status_macros.h"

namespace tandem::cli {
namespace {

struct Flags {
  TextModelFlags model;
  GenerationFlags generation;
  std::string prompt, chat, system, ids, print = "text";
  bool parse_special = false, quiet = false;
  std::optional<uint32_t> logprobs;
};

absl::Status CheckTexts(const v1::GenerateRequest& request) {
  TANDEM_RETURN_IF_ERROR(CheckUtf8("prompt", request.prompt()));
  for (const v1::ChatMessage& message : request.chat().messages()) {
    TANDEM_RETURN_IF_ERROR(CheckUtf8("message", message.content()));
  }
  for (const std::string& stop : request.stop()) TANDEM_RETURN_IF_ERROR(CheckUtf8("stop string", stop));
  for (const std::string& text : request.banned_text()) TANDEM_RETURN_IF_ERROR(CheckUtf8("banned text", text));
  for (const std::string& text : request.dry().breakers()) TANDEM_RETURN_IF_ERROR(CheckUtf8("DRY breaker", text));
  TANDEM_RETURN_IF_ERROR(CheckUtf8("grammar", request.grammar()));
  TANDEM_RETURN_IF_ERROR(CheckUtf8("schema", request.json_schema()));
  return absl::OkStatus();
}

absl::StatusOr<v1::GenerateRequest> BuildRequest(const Flags& flags) {
  v1::GenerateRequest request;
  TANDEM_RETURN_IF_ERROR(ApplyGenerationFlags(flags.generation, &request));
  if (flags.logprobs) request.mutable_sampling()->set_top_logprobs(*flags.logprobs);
  request.set_parse_special(flags.parse_special);
  if (!flags.ids.empty()) {
    TANDEM_ASSIGN_OR_RETURN(const std::vector<int32_t> ids, ParseTokenIds(flags.ids));
    for (int32_t id : ids) request.mutable_ids()->add_ids(id);
  } else if (!flags.chat.empty()) {
    if (!flags.system.empty()) {
      v1::ChatMessage& system = *request.mutable_chat()->add_messages();
      system.set_role("system");
      system.set_content(flags.system);
    }
    v1::ChatMessage& user = *request.mutable_chat()->add_messages();
    user.set_role("user");
    user.set_content(flags.chat);
  } else if (!flags.prompt.empty()) {
    request.set_prompt(flags.prompt);
  } else if (!isatty(STDIN_FILENO)) {
    request.set_prompt(std::string(std::istreambuf_iterator<char>(std::cin), {}));
  } else {
    return absl::OutOfRangeError("nothing to continue: give PROMPT, --chat TEXT, --ids LIST or text on standard input");
  }
  TANDEM_RETURN_IF_ERROR(CheckTexts(request));
  return request;
}

absl::Status Run(const Flags& flags) {
  Interrupt interrupt;
  TANDEM_ASSIGN_OR_RETURN(const v1::GenerateRequest request, BuildRequest(flags));
  TANDEM_ASSIGN_OR_RETURN(const std::unique_ptr<TextModel> model, OpenTextModel(flags.model));
  AnswerPrinter printer(flags.print == "ids" ? PrintMode::kIds : PrintMode::kText, flags.quiet);
  const absl::Status status = model->Generate(
      request, interrupt, [&printer](const v1::GenerateResponse& response) { printer.Print(response); });
  printer.Finish();
  return status;
}

}  // namespace

void AddGenerate(CLI::App& app, Action* action) {
  CLI::App* command = app.add_subcommand("generate", "Generate text from a prompt and stream it");
  auto flags = std::make_shared<Flags>();
  CLI::Option* prompt = command->add_option("PROMPT", flags->prompt, "Text to continue; default: standard input");
  CLI::Option* chat =
      command->add_option("--chat", flags->chat, "A question, put through the model's chat template")->excludes(prompt);
  command->add_option("--system", flags->system, "System message before --chat")->needs(chat);
  command->add_option("--ids", flags->ids, "Token ids to continue, such as 1,403,407")
      ->excludes(prompt)
      ->excludes(chat);
  command->add_option("--print", flags->print, "text, or ids: the generated token ids on one line")
      ->check(CLI::IsMember({"text", "ids"}))
      ->capture_default_str();
  command->add_flag("--parse-special", flags->parse_special,
                    "Text in PROMPT that spells a control token is that token");
  command->add_option("--logprobs", flags->logprobs,
                      "Print each token's log-probability and the N most probable (standard error)");
  command->add_flag("-q,--quiet", flags->quiet, "No closing line");
  AddTextModelFlags(*command, &flags->model);
  AddGenerationFlags(*command, &flags->generation);
  command->callback([flags, action] { *action = [flags] { return Run(*flags); }; });
}

}  // namespace tandem::cli
