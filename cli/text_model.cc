#include "cli/text_model.h"

#include "absl/strings/str_cat.h"
#include "cli/local_cluster.h"
#include "cli/remote_model.h"
#include "coordinator/draft/draft_model.h"
#include "engine/base/status_macros.h"
#include "engine/cache/kv_format.h"
#include "engine/cpu/cpu_features.h"
#include "engine/quant/activation_format.h"
#include "engine/tokenizer/utf8.h"

namespace tandem::cli {

void AddTextModelFlags(CLI::App& command, TextModelFlags* flags) {
  CLI::Option* server = command.add_option("--server", flags->server, "Coordinator, host:port")->capture_default_str();
  CLI::Option* model = command.add_option(
      "--model", flags->model, "With --local: the GGUF file. Else: name of the model, if not the one served");
  CLI::Option* local =
      command.add_option("--local", flags->local, "Run N workers inside this process instead of asking a server")
          ->check(CLI::Range(1, 1024))
          ->excludes(server)
          ->needs(model);
  command.add_option("--adapter", flags->adapters, "A LoRA adapter of the model (GGUF) for --lora, as NAME=FILE")
      ->allow_extra_args(false)
      ->needs(local)
      ->group("With --local");
  command.add_option("--draft", flags->draft, coordinator::kDraftHelp)
      ->check(CLI::ExistingFile)
      ->needs(local)
      ->group("With --local");
  command.add_option("--draft-threads", flags->draft_threads, coordinator::kDraftThreadsHelp)
      ->check(CLI::Range(0, 1024))
      ->needs(local)
      ->capture_default_str()
      ->group("With --local");
  AddLocalClusterFlags(command, flags, local);
}

void AddLocalClusterFlags(CLI::App& command, TextModelFlags* flags, CLI::Option* local) {
  const std::string group = "With --local";
  for (CLI::Option* option : {
           command.add_option("--threads", flags->threads, "Threads of each worker; default: the cores shared out")
               ->check(CLI::Range(1, 1024)),
           command.add_option("--cpu-isa", flags->cpu_isa, engine::IsaChoices())->capture_default_str(),
           command.add_option("--kv", flags->kv, engine::KvTypeChoices())
               ->check(CLI::IsMember(engine::KvTypeNames()))
               ->capture_default_str(),
           command.add_option("--activations", flags->activations, "What activations travel as between the workers")
               ->check(CLI::IsMember(engine::ActivationTypeNames()))
               ->capture_default_str(),
           command.add_option("--context", flags->context, "Tokens of context; default: the model's, at most 4096")
               ->check(CLI::Range(1, 1 << 20)),
           command.add_option("--speculate", flags->speculate, coordinator::kSpeculateHelp)
               ->check(CLI::Range(0, coordinator::kMaxGuessedTokens))
               ->capture_default_str(),
       }) {
    option->group(group);
    if (local != nullptr) option->needs(local);
  }
}

absl::Status CheckUtf8(const char* what, const std::string& text) {
  const size_t valid = engine::ValidUtf8Prefix(text);
  if (valid == text.size()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("the ", what, " is not UTF-8: byte ", valid, " begins no character"));
}

absl::StatusOr<std::unique_ptr<TextModel>> OpenTextModel(const TextModelFlags& flags) {
  if (flags.local == 0) return std::make_unique<RemoteModel>(flags.server, flags.model);
  TANDEM_ASSIGN_OR_RETURN(const LocalClusterOptions options, LocalOptions(flags));
  return LocalCluster::Create(options);
}

}  // namespace tandem::cli
