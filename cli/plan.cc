// `tandem plan`: which worker would hold which layers, and how fast that would be.
#include <cstdio>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cli/cluster_text.h"
#include "cli/command.h"
#include "cli/remote_model.h"
#include "coordinator/placement/cluster_toml.h"
#include "coordinator/placement/planner.h"
#include "engine/base/status_macros.h"
#include "engine/cache/kv_format.h"

namespace tandem::cli {
namespace {

struct Flags {
  std::string model, cluster, server = "127.0.0.1:7070", kv = "f16";
  coordinator::PlanOptions options;
};

absl::StatusOr<coordinator::ClusterDescription> ReadClusterFile(const std::string& path) {
  std::ifstream file(path);
  if (!file) return absl::NotFoundError(absl::StrCat("cannot read ", path));
  const std::string text(std::istreambuf_iterator<char>(file), {});
  absl::StatusOr<coordinator::ClusterDescription> cluster = coordinator::ParseClusterToml(text);
  if (!cluster.ok()) return absl::InvalidArgumentError(absl::StrCat(path, ": ", cluster.status().message()));
  return cluster;
}

// The workers of a live cluster as they were measured.
absl::StatusOr<coordinator::ClusterDescription> AskCluster(const std::string& server) {
  TANDEM_ASSIGN_OR_RETURN(const v1::ClusterState state, FetchState(server));
  if (state.workers().empty())
    return absl::FailedPreconditionError(absl::StrCat("no worker has joined the cluster at ", server));
  coordinator::ClusterDescription cluster;
  for (const v1::Worker& worker : state.workers()) {
    const v1::Device& device = worker.device();
    cluster.devices.push_back({.name = worker.name(),
                               .memory_bytes = device.memory_bytes(),
                               .bandwidth = device.memory_bandwidth(),
                               .int8_macs = device.int8_macs(),
                               .threads = static_cast<int32_t>(device.threads())});
  }
  return cluster;
}

absl::Status Run(const Flags& flags) {
  if (flags.model.empty()) {
    TANDEM_ASSIGN_OR_RETURN(const v1::Placement placement, FetchPlan(flags.server, flags.options.context));
    std::fputs(coordinator::FormatPlan(PlanFromProto(placement)).c_str(), stdout);
    return absl::OkStatus();
  }
  TANDEM_ASSIGN_OR_RETURN(const std::unique_ptr<engine::GgufFile> file, engine::GgufFile::Open(flags.model));
  TANDEM_ASSIGN_OR_RETURN(const engine::ModelSpec spec, engine::ReadModelSpec(*file));
  TANDEM_ASSIGN_OR_RETURN(coordinator::ClusterDescription cluster,
                          flags.cluster.empty() ? AskCluster(flags.server) : ReadClusterFile(flags.cluster));
  coordinator::PlanOptions options = flags.options;
  TANDEM_ASSIGN_OR_RETURN(options.kv_type, engine::ParseKvType(flags.kv));
  TANDEM_ASSIGN_OR_RETURN(coordinator::PlanInput input,
                          coordinator::MakePlanInput(*file, spec, options, std::move(cluster.devices)));
  if (options.min_stages > static_cast<int32_t>(input.devices.size())) {
    return absl::InvalidArgumentError(absl::StrCat("--min-stages ", options.min_stages, " wants more workers than the ",
                                                   input.devices.size(), " there are"));
  }
  input.link = cluster.link;
  TANDEM_ASSIGN_OR_RETURN(const coordinator::Plan plan, coordinator::PlanPlacement(input));
  std::fputs(coordinator::FormatPlan(plan).c_str(), stdout);
  return absl::OkStatus();
}

}  // namespace

void AddPlan(CLI::App& app, Action* action) {
  CLI::App* command = app.add_subcommand("plan", "Show which worker would hold which layers, and the speed to expect");
  auto flags = std::make_shared<Flags>();
  CLI::Option* model =
      command->add_option("FILE", flags->model, "GGUF file to plan for; default: the model that the cluster serves");
  CLI::Option* server =
      command->add_option("--server", flags->server, "Coordinator whose workers to plan for, host:port")
          ->capture_default_str();
  command
      ->add_option("--cluster", flags->cluster,
                   "Plan for the workers described in this TOML file instead of a live cluster's")
      ->needs(model)
      ->excludes(server);
  command
      ->add_option("--context", flags->options.context,
                   "Tokens of context that the KV pages must hold; default: the model's, at most 4096")
      ->check(CLI::Range(1, 1 << 20));
  for (CLI::Option* option : {
           command
               ->add_option("--sequences", flags->options.max_sequences, "Full contexts that the KV pages should hold")
               ->check(CLI::Range(1, 1 << 20))
               ->capture_default_str(),
           command->add_option("--kv", flags->kv, engine::KvTypeChoices())
               ->check(CLI::IsMember(engine::KvTypeNames()))
               ->capture_default_str(),
           command
               ->add_option(
                   "--prompt-share", flags->options.prompt_share,
                   "What part of all tokens those of prompts are expected to be, for which stages are balanced")
               ->check(CLI::Range(0.0, 1.0))
               ->capture_default_str(),
           command->add_option("--min-stages", flags->options.min_stages, "Give at least this many workers layers")
               ->check(CLI::Range(1, 1024))
               ->capture_default_str(),
       }) {
    option->needs(model);
  }
  command->footer(
      "A cluster file:\n  [[worker]]\n  name = \"desk\"\n  memory_gib = 24\n  bandwidth_gbs = 45    # memory read "
      "bandwidth, GB/s\n"
      "  int8_tops = 1.6       # 10^12 int8 operations/s\n  [link]\n  latency_ms = 0.15\n  bandwidth_mbps = 940");
  command->callback([flags, action] { *action = [flags] { return Run(*flags); }; });
}

}  // namespace tandem::cli
