// `tandem tokenize`: text to token ids, by a model file or by the model that a cluster serves.
#include <cstdio>
#include <iostream>
#include <iterator>
#include <memory>
#include <string>

#include "cli/command.h"
#include "cli/remote_model.h"
#include "engine/base/status_macros.h"
#include "engine/tokenizer/tokenizer.h"

namespace tandem::cli {
namespace {

struct Flags {
  std::string text, model, server = "127.0.0.1:7070";
  bool has_text = false, add_special = false, parse_special = false, pieces = false;
};

absl::Status PrintLocal(const Flags& flags, const std::string& text) {
  TANDEM_ASSIGN_OR_RETURN(const std::unique_ptr<engine::GgufFile> file, engine::GgufFile::Open(flags.model));
  TANDEM_ASSIGN_OR_RETURN(const std::unique_ptr<engine::Tokenizer> tokenizer, engine::Tokenizer::Create(*file));
  const char* separator = "";
  for (engine::TokenId id :
       tokenizer->Encode(text, {.add_special = flags.add_special, .parse_special = flags.parse_special})) {
    std::printf("%s%d", separator, id);
    if (flags.pieces) std::printf("\t%s", std::string(tokenizer->Spelling(id)).c_str());
    separator = flags.pieces ? "\n" : " ";
  }
  std::printf("\n");
  return absl::OkStatus();
}

absl::Status PrintRemote(const Flags& flags, const std::string& text) {
  v1::TokenizeRequest request;
  request.set_text(text);
  request.set_add_special(flags.add_special);
  request.set_parse_special(flags.parse_special);
  TANDEM_ASSIGN_OR_RETURN(const v1::TokenizeResponse response, RemoteTokenize(flags.server, request));
  const char* separator = "";
  for (uint32_t id : response.ids()) {
    std::printf("%s%u", separator, id);
    separator = " ";
  }
  std::printf("\n");
  return absl::OkStatus();
}

absl::Status Run(const Flags& flags) {
  const std::string text = flags.has_text ? flags.text : std::string(std::istreambuf_iterator<char>(std::cin), {});
  return flags.model.empty() ? PrintRemote(flags, text) : PrintLocal(flags, text);
}

}  // namespace

void AddTokenize(CLI::App& app, Action* action) {
  CLI::App* command = app.add_subcommand("tokenize", "Print the token ids of a text, on one line");
  auto flags = std::make_shared<Flags>();
  CLI::Option* text = command->add_option("TEXT", flags->text, "Text; default: standard input, taken as it is");
  CLI::Option* model = command->add_option("--model", flags->model, "GGUF file; default: ask the cluster at --server");
  command->add_option("--server", flags->server, "Coordinator, host:port")->capture_default_str()->excludes(model);
  command->add_flag("--add-special", flags->add_special, "Add BOS and EOS as the model asks");
  command->add_flag("--parse-special", flags->parse_special, "Text that spells a control token is that token");
  command->add_flag("--pieces", flags->pieces, "One token a line with its spelling; needs --model")->needs(model);
  command->callback([flags, text, action] {
    flags->has_text = text->count() > 0;
    *action = [flags] { return Run(*flags); };
  });
}

}  // namespace tandem::cli
