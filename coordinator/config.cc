#include "coordinator/config.h"

#include <map>
#include <string>

#include <CLI/CLI.hpp>

#include "coordinator/draft/draft_model.h"
#include "coordinator/placement/cluster_plan.h"
#include "engine/cache/kv_format.h"

namespace tandem::coordinator {

void AddCoordinatorFlags(CLI::App& app, CoordinatorConfig* config) {
  app.add_option("--listen", config->listen, "Address for clients and workers; port 0: any free one")
      ->capture_default_str();
  app.add_option("--advertise", config->advertise,
                 "Address under which workers reach this coordinator (default: that of --listen)");
  app.add_option("--adapter", config->adapters,
                 "A LoRA adapter of the model (GGUF) that requests may name, as NAME=FILE; may be repeated")
      ->allow_extra_args(false);
  app.add_option("--min-workers", config->min_workers,
                 "Wait for this many workers, and cut each pipeline over at least as many where possible")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  app.add_option("--max-pipelines", config->max_pipelines, kMaxPipelinesHelp)
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  app.add_option("--context", config->context,
                 "Most tokens of a prompt and its answer; 0: what the model was made for, at most 4096")
      ->check(CLI::Range(0, 1 << 30))
      ->capture_default_str();
  std::map<std::string, engine::KvType> kv_types;
  for (const engine::KvFormat& format : engine::AllKvFormats()) kv_types.emplace(format.name, format.type);
  app.add_option("--kv", config->kv_type, engine::KvTypeChoices())
      ->transform(CLI::CheckedTransformer(kv_types))
      ->default_str("f16");
  app.add_option("--prompt-share", config->prompt_share,
                 "What part of all tokens those of prompts are expected to be; layers are cut so that stages are "
                 "equally busy with such a mix")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  app.add_option_function<std::string>(
         "--activations", [config](const std::string& name) { config->activations = *ParseActivationChoice(name); },
         kActivationsHelp)
      ->check(CLI::IsMember(ActivationChoiceNames()))
      ->default_str("f32");
  app.add_option("--max-sequences", config->max_sequences,
                 "Full contexts that the KV pages should hold, if memory allows; short requests share them")
      ->check(CLI::Range(1, kMaxSequences))
      ->capture_default_str();
  app.add_option("--speculate", config->max_guessed_tokens, kSpeculateHelp)
      ->check(CLI::Range(0, kMaxGuessedTokens))
      ->capture_default_str();
  app.add_option("--draft", config->draft_path, kDraftHelp)->check(CLI::ExistingFile);
  app.add_option("--draft-threads", config->draft_threads, kDraftThreadsHelp)
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  app.add_option("--max-waiting", config->max_waiting, "Requests that may wait for each pipeline; more are refused")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  app.add_option("--max-step-tokens", config->max_step_tokens, "Most tokens of a step: sizes prefill chunks")
      ->check(CLI::Range(1, 1 << 16))
      ->capture_default_str();
  app.add_option("--metrics", config->metrics_listen,
                 "Serve Prometheus metrics at this address, such as 127.0.0.1:9100");
  app.add_flag("--insecure", config->insecure, "Listen beyond loopback although nothing is encrypted or authenticated");
}

}  // namespace tandem::coordinator
