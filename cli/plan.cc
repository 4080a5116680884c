// `tandem plan`: which worker would hold which layers, and how fast that would be; or how a load would be served.
#include <cstdio>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "cli/bench/simulated_load.h"
#include "cli/bench/timeline_svg.h"
#include "cli/cluster_text.h"
#include "cli/command.h"
#include "cli/output_file.h"
#include "cli/progress_bar.h"
#include "cli/remote_model.h"
#include "coordinator/placement/cluster_plan.h"
#include "coordinator/placement/cluster_toml.h"
#include "engine/base/status_macros.h"
#include "engine/cache/kv_format.h"

namespace tandem::cli {
namespace {

struct Flags {
  std::string model, cluster, server = "127.0.0.1:7070", kv = "f16", activations = "f32";
  coordinator::PlanOptions options;
  bool simulate = false;
  std::string prompt_tokens = "128", answer_tokens = "64";
  SimulatedLoad load;
  std::string json, chart;
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

absl::Status RunSimulation(const Flags& flags, const coordinator::PlanInput& input,
                           const coordinator::ClusterPlan& plan) {
  OutputFile json, chart;
  TANDEM_RETURN_IF_ERROR(json.Open(flags.json));
  TANDEM_RETURN_IF_ERROR(chart.Open(flags.chart));
  SimulatedLoad load = flags.load;
  TANDEM_ASSIGN_OR_RETURN(load.prompt_tokens, LengthDistribution::Parse(flags.prompt_tokens));
  TANDEM_ASSIGN_OR_RETURN(load.answer_tokens, LengthDistribution::Parse(flags.answer_tokens));
  ProgressBar bar("simulate", /*shown=*/true);
  const auto progress = [&](uint64_t ended, double seconds) {
    bar.Update(static_cast<double>(ended) / static_cast<double>(load.requests),
               absl::StrFormat("%d requests ended, %.0f s passed", ended, seconds));
  };
  TANDEM_ASSIGN_OR_RETURN(const SimulatedRun run, Simulate(input, plan, load, progress));

  LoadDescription description;
  size_t stages = 0;
  for (const coordinator::Plan& pipeline : plan.pipelines) stages += pipeline.stages.size();
  description.server = absl::StrCat("a simulation of ", stages, stages == 1 ? " stage" : " stages");
  if (plan.pipelines.size() > 1) absl::StrAppend(&description.server, " in ", plan.pipelines.size(), " pipelines");
  description.model = flags.model;
  description.arrivals = load.rate > 0 ? absl::StrCat("Poisson, ", load.rate, " requests a second")
                                       : absl::StrCat(load.clients, load.clients == 1 ? " client" : " clients");
  description.prompt_tokens = flags.prompt_tokens;
  description.answer_tokens = flags.answer_tokens;
  description.shared_prefix = load.shared_prefix;
  description.seed = load.seed;
  std::fputs(absl::StrCat("\n", ReportTable(description, run.report, run.timeline)).c_str(), stdout);
  TANDEM_RETURN_IF_ERROR(json.Write(ReportJson(description, run.report, run.timeline)));
  return chart.Write(TimelineSvg(run.timeline));
}

absl::Status Run(const Flags& flags) {
  if (flags.model.empty()) {
    TANDEM_ASSIGN_OR_RETURN(const v1::PlanReply plan, FetchPlan(flags.server, flags.options.context));
    std::fputs(coordinator::FormatClusterPlan(PlanFromProto(plan.pipelines(), plan.unused())).c_str(), stdout);
    return absl::OkStatus();
  }
  TANDEM_ASSIGN_OR_RETURN(const std::unique_ptr<engine::GgufFile> file, engine::GgufFile::Open(flags.model));
  TANDEM_ASSIGN_OR_RETURN(const engine::ModelSpec spec, engine::ReadModelSpec(*file));
  TANDEM_ASSIGN_OR_RETURN(coordinator::ClusterDescription cluster,
                          flags.cluster.empty() ? AskCluster(flags.server) : ReadClusterFile(flags.cluster));
  coordinator::PlanOptions options = flags.options;
  TANDEM_ASSIGN_OR_RETURN(options.kv_type, engine::ParseKvType(flags.kv));
  TANDEM_ASSIGN_OR_RETURN(options.activations, coordinator::ParseActivationChoice(flags.activations));
  TANDEM_ASSIGN_OR_RETURN(coordinator::PlanInput input,
                          coordinator::MakePlanInput(*file, spec, options, std::move(cluster.devices)));
  if (options.min_stages > static_cast<int32_t>(input.devices.size())) {
    return absl::InvalidArgumentError(absl::StrCat("--min-stages ", options.min_stages, " wants more workers than the ",
                                                   input.devices.size(), " there are"));
  }
  input.link = cluster.link;
  TANDEM_ASSIGN_OR_RETURN(const coordinator::ClusterPlan plan, coordinator::PlanCluster(input));
  std::fputs(coordinator::FormatClusterPlan(plan).c_str(), stdout);
  return flags.simulate ? RunSimulation(flags, input, plan) : absl::OkStatus();
}

// What only --simulate reads.
void AddLoadFlags(CLI::App& command, CLI::Option* simulate, Flags* flags) {
  SimulatedLoad& load = flags->load;
  CLI::Option* clients =
      command.add_option("--clients", load.clients, "N clients, each of which asks when it has its answer")
          ->check(CLI::Range(1, 100000))
          ->capture_default_str();
  for (CLI::Option* option : {
           clients,
           command.add_option("--rate", load.rate, "Requests a second, at the times of a Poisson process, instead")
               ->check(CLI::Range(0.0001, 100000.0))
               ->excludes(clients),
           command.add_option("--requests", load.requests, "How many")
               ->check(CLI::Range(uint64_t{1}, uint64_t{1} << 20))
               ->capture_default_str(),
           command.add_option("--prompt-tokens", flags->prompt_tokens, "Length of prompts, as for tandem bench")
               ->capture_default_str(),
           command.add_option("--answer-tokens", flags->answer_tokens, "Length of answers")->capture_default_str(),
           command
               .add_option("--shared-prefix", load.shared_prefix, "N more tokens in front of every prompt, the same")
               ->check(CLI::Range(uint32_t{0}, kMaxTokens)),
           command.add_option("--max-waiting", load.max_waiting, "Requests that may wait; more are refused")
               ->check(CLI::Range(1, 1 << 20))
               ->capture_default_str(),
           command.add_option("--seed", load.seed, "Of times and lengths, which are those of tandem bench")
               ->check(CLI::NonNegativeNumber)
               ->capture_default_str(),
           command.add_option("--json", flags->json, "Write the report to FILE, as JSON"),
           command.add_option("--chart", flags->chart, "Write an SVG of the stages' timeline to FILE"),
       }) {
    option->needs(simulate)->group("Simulated load");
  }
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
           command->add_option("--activations", flags->activations, coordinator::kActivationsHelp)
               ->check(CLI::IsMember(coordinator::ActivationChoiceNames()))
               ->capture_default_str(),
           command
               ->add_option("--min-stages", flags->options.min_stages,
                            "Give at least this many workers of each pipeline layers")
               ->check(CLI::Range(1, 1024))
               ->capture_default_str(),
           command->add_option("--max-pipelines", flags->options.max_pipelines, coordinator::kMaxPipelinesHelp)
               ->check(CLI::Range(0, 1024))
               ->capture_default_str(),
       }) {
    option->needs(model);
  }
  CLI::Option* simulate =
      command
          ->add_flag("--simulate", flags->simulate,
                     "Run the scheduler against the planned stages in virtual time; report as tandem bench does")
          ->needs(model);
  AddLoadFlags(*command, simulate, flags.get());
  command->footer(
      "A cluster file:\n  [[worker]]\n  name = \"desk\"\n  memory_gib = 24\n  bandwidth_gbs = 45    # memory read "
      "bandwidth, GB/s\n"
      "  int8_tops = 1.6       # 10^12 int8 operations/s\n  count = 20            # so many of them; default: "
      "one\n  [link]\n  latency_ms = 0.15\n  bandwidth_mbps = 940");
  command->callback([flags, action] { *action = [flags] { return Run(*flags); }; });
}

}  // namespace tandem::cli
