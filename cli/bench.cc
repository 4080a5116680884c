// `tandem bench`: a load on a server, and how it was served.
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "cli/bench/load_client.h"
#include "cli/bench/load_report.h"
#include "cli/bench/prompt_source.h"
#include "cli/bench/report_text.h"
#include "cli/bench/step_watch.h"
#include "cli/bench/timeline_svg.h"
#include "cli/bench/workload.h"
#include "cli/command.h"
#include "cli/output_file.h"
#include "cli/progress_bar.h"
#include "cli/remote_model.h"
#include "cli/text_model.h"
#include "coordinator/gateway/generation_request.h"
#include "engine/base/interrupt.h"
#include "engine/base/status_macros.h"
#include "proto/support/channel.h"

namespace tandem::cli {
namespace {

struct Flags {
  std::string server = "127.0.0.1:7070", model;
  int clients = 1;
  std::optional<double> rate;
  std::string trace;
  std::optional<uint64_t> requests;
  std::optional<double> duration_s, timeout_s;
  std::string prompt_tokens = "128", answer_tokens = "64", text;
  uint32_t shared_prefix = 0;
  float temperature = 0;
  std::optional<uint64_t> seed;
  std::string json, chart;
};

constexpr uint64_t kDefaultRequests = 32;
constexpr size_t kMaxTraceBytes = size_t{256} << 20;

absl::StatusOr<std::string> ReadFile(const std::string& path, size_t most) {
  std::ifstream stream(path, std::ios::binary | std::ios::ate);
  const std::streamoff bytes = stream ? static_cast<std::streamoff>(stream.tellg()) : -1;
  if (bytes < 0) return absl::NotFoundError(absl::StrCat("cannot read ", path));
  if (static_cast<uint64_t>(bytes) > most) {
    return absl::InvalidArgumentError(absl::StrCat(path, " has ", bytes, " bytes, at most ", most, " are read"));
  }
  std::string text(static_cast<size_t>(bytes), '\0');
  if (!stream.seekg(0).read(text.data(), bytes)) return absl::NotFoundError(absl::StrCat("cannot read ", path));
  return text;
}

absl::StatusOr<TokenSource> MakeSource(const Flags& flags, const v1::Model& model) {
  TokenSource source;
  if (flags.text.empty()) {
    const auto detokenize = [&](const std::vector<uint32_t>& ids, bool special) -> absl::StatusOr<std::string> {
      v1::DetokenizeRequest request;
      request.set_model(model.name());
      request.mutable_ids()->Add(ids.begin(), ids.end());
      request.set_render_special(special);
      TANDEM_ASSIGN_OR_RETURN(const v1::DetokenizeResponse response, RemoteDetokenize(flags.server, request));
      return response.text();
    };
    TANDEM_ASSIGN_OR_RETURN(source.ids, RandomPromptTokens(model.vocabulary(), *flags.seed, detokenize));
    return source;
  }
  v1::TokenizeRequest request;
  request.set_model(model.name());
  TANDEM_ASSIGN_OR_RETURN(*request.mutable_text(), ReadFile(flags.text, coordinator::kMaxTextBytes));
  TANDEM_RETURN_IF_ERROR(CheckUtf8("text of --text", request.text()));
  TANDEM_ASSIGN_OR_RETURN(const v1::TokenizeResponse response, RemoteTokenize(flags.server, request));
  source.ids.assign(response.ids().begin(), response.ids().end());
  source.in_order = true;
  if (source.ids.empty()) return absl::InvalidArgumentError(absl::StrCat(flags.text, " has no tokens"));
  return source;
}

absl::StatusOr<WorkloadOptions> MakeWorkload(const Flags& flags, const v1::Model& model) {
  WorkloadOptions options;
  options.model = model.name();
  TANDEM_ASSIGN_OR_RETURN(options.prompt_tokens, LengthDistribution::Parse(flags.prompt_tokens));
  TANDEM_ASSIGN_OR_RETURN(options.answer_tokens, LengthDistribution::Parse(flags.answer_tokens));
  options.shared_prefix = flags.shared_prefix;
  options.rate = flags.rate.value_or(0);
  options.temperature = flags.temperature;
  options.seed = *flags.seed;
  if (!flags.trace.empty()) {
    TANDEM_ASSIGN_OR_RETURN(const std::string text, ReadFile(flags.trace, kMaxTraceBytes));
    auto trace = ParseTrace(text);
    if (!trace.ok()) return absl::InvalidArgumentError(absl::StrCat(flags.trace, ": ", trace.status().message()));
    options.trace = *std::move(trace);
  }
  TANDEM_RETURN_IF_ERROR(Workload::CheckFits(options, model.context()));
  TANDEM_ASSIGN_OR_RETURN(options.source, MakeSource(flags, model));
  return options;
}

LoadLimits MakeLimits(const Flags& flags) {
  LoadLimits limits;
  const bool open_loop = flags.rate.has_value() || !flags.trace.empty();
  limits.clients = open_loop ? 0 : flags.clients;
  if (flags.requests) limits.requests = *flags.requests;
  if (flags.duration_s) limits.duration_s = *flags.duration_s;
  if (flags.timeout_s) limits.request_timeout_s = *flags.timeout_s;
  if (flags.trace.empty() && !flags.requests && !flags.duration_s) limits.requests = kDefaultRequests;
  return limits;
}

LoadDescription Describe(const Flags& flags, const v1::Model& model) {
  LoadDescription load;
  load.server = flags.server;
  load.model = model.name();
  load.prompt_tokens = load.answer_tokens = "trace";
  if (!flags.trace.empty()) {
    load.arrivals = absl::StrCat("trace ", flags.trace);
  } else {
    load.arrivals = flags.rate ? absl::StrCat("Poisson, ", *flags.rate, " requests a second")
                               : absl::StrCat(flags.clients, flags.clients == 1 ? " client" : " clients");
    load.prompt_tokens = flags.prompt_tokens;
    load.answer_tokens = flags.answer_tokens;
  }
  load.shared_prefix = flags.shared_prefix;
  load.seed = *flags.seed;
  return load;
}

// How much of the load is over, by the limit that comes first.
double Fraction(const LoadProgress& progress, const LoadLimits& limits, size_t trace_size) {
  const uint64_t requests = trace_size > 0 ? std::min<uint64_t>(trace_size, limits.requests) : limits.requests;
  return std::max(static_cast<double>(progress.ended) / static_cast<double>(requests),
                  progress.elapsed_s / limits.duration_s);
}

std::vector<RequestRecord> RunLoad(const Flags& flags, WorkloadOptions options, Interrupt& interrupt) {
  const LoadLimits limits = MakeLimits(flags);
  const size_t trace_size = options.trace.size();
  Workload workload(std::move(options));
  LoadClient client(proto_support::MakeChannel(flags.server));
  ProgressBar bar("bench", /*shown=*/true);
  return client.Run(workload, limits, interrupt, [&](const LoadProgress& progress) {
    bar.Update(Fraction(progress, limits, trace_size),
               absl::StrFormat("%.0f s: %d requests, %d ended, %d failed; %.1f tokens/s", progress.elapsed_s,
                               progress.sent, progress.ended, progress.failed,
                               static_cast<double>(progress.tokens) / std::max(progress.elapsed_s, 1e-3)));
  });
}

absl::Status Run(Flags flags) {
  Interrupt interrupt;
  if (!flags.seed) flags.seed = std::random_device()();
  OutputFile json, chart;
  TANDEM_RETURN_IF_ERROR(json.Open(flags.json));
  TANDEM_RETURN_IF_ERROR(chart.Open(flags.chart));
  TANDEM_ASSIGN_OR_RETURN(const v1::Model model, FetchModel(flags.server, flags.model));
  TANDEM_ASSIGN_OR_RETURN(WorkloadOptions options, MakeWorkload(flags, model));
  StepWatch watch(proto_support::MakeChannel(flags.server));
  const std::vector<RequestRecord> records = RunLoad(flags, std::move(options), interrupt);
  const LoadReport report = MakeReport(records);
  // All tokens of an answer but the first come from steps that decode, and so do guesses that were wrong.
  const uint64_t wrong_guesses = report.guessed_tokens - std::min(report.guessed_tokens, report.right_guesses);
  watch.Finish(report.prompt_tokens - std::min(report.prompt_tokens, report.cached_tokens),
               report.between_tokens_s.count + wrong_guesses);

  LoadDescription load = Describe(flags, model);
  load.no_stages_because = watch.why();
  std::fputs(ReportTable(load, report, watch.timeline()).c_str(), stdout);
  TANDEM_RETURN_IF_ERROR(json.Write(ReportJson(load, report, watch.timeline())));
  if (chart.wanted() && !watch.why().empty()) {
    return absl::UnavailableError(absl::StrCat("no chart was drawn: ", watch.why()));
  }
  TANDEM_RETURN_IF_ERROR(chart.Write(TimelineSvg(watch.timeline())));
  if (interrupt.requested()) return absl::CancelledError("interrupted");
  if (report.failed == 0) return absl::OkStatus();
  return absl::UnavailableError(
      absl::StrCat(report.failed, " of ", report.requests(), " requests failed, the first: ", report.first_error));
}

void AddLoadFlags(CLI::App& command, Flags* flags) {
  CLI::Option* clients =
      command
          .add_option("--clients", flags->clients, "Closed loop: N clients, each of which asks when it has its answer")
          ->check(CLI::Range(1, 10000))
          ->capture_default_str();
  CLI::Option* rate =
      command.add_option("--rate", flags->rate, "Open loop: requests a second, at the times of a Poisson process")
          ->check(CLI::Range(0.0001, 100000.0))
          ->excludes(clients);
  CLI::Option* trace =
      command.add_option("--trace", flags->trace, "Open loop: times and lengths from a file of JSON lines, see below")
          ->excludes(clients)
          ->excludes(rate);
  command
      .add_option(
          "--requests", flags->requests,
          absl::StrCat("Send at most N; default: the whole trace, no limit with --duration, else ", kDefaultRequests))
      ->check(CLI::Range(uint64_t{1}, uint64_t{1} << 40));
  command.add_option("--duration", flags->duration_s, "Send none after S seconds; answers under way are waited for")
      ->check(CLI::Range(0.001, 1e7));
  command.add_option("--timeout", flags->timeout_s, "Deadline of each request in seconds; default: none")
      ->check(CLI::Range(0.001, 1e7));
  for (CLI::Option* option : {
           command.add_option("--prompt-tokens", flags->prompt_tokens, "Length of prompts, see below"),
           command.add_option("--answer-tokens", flags->answer_tokens, "Length of answers, see below"),
       }) {
    option->capture_default_str()->excludes(trace);
  }
  command
      .add_option("--shared-prefix", flags->shared_prefix, "N more tokens in front of every prompt, always the same")
      ->check(CLI::Range(uint32_t{0}, kMaxTokens));
  command.add_option("--text", flags->text, "Prompts are pieces of this text; default: random tokens");
  command.add_option("--temperature", flags->temperature, "Of the draws; 0 is greedy")->capture_default_str();
  command
      .add_option("--seed", flags->seed,
                  "Of times, lengths, prompts and draws; default: another each time, since a server may keep what it "
                  "computed of prompts")
      ->check(CLI::NonNegativeNumber);
}

}  // namespace

void AddBench(CLI::App& app, Action* action) {
  CLI::App* command =
      app.add_subcommand("bench", "Put a server under load; report latencies, rates and use of the stages");
  auto flags = std::make_shared<Flags>();
  command->add_option("--server", flags->server, "Coordinator, host:port")->capture_default_str();
  command->add_option("--model", flags->model, "Name of the model, if not the one served");
  AddLoadFlags(*command, flags.get());
  command->add_option("--json", flags->json, "Write the report to FILE, as JSON");
  command->add_option("--chart", flags->chart,
                      "Write an SVG of the stages' timeline to FILE: a row a stage, a bar a step");
  command->footer(
      "Lengths, in tokens:   128   64..256 (uniform)   lognormal(128,0.5) (median and sigma; cut off at median *\n"
      "                      exp(4 sigma), or at MAX with lognormal(128,0.5,MAX)). Answers go on to their length\n"
      "                      whether or not the model would end.\n"
      "Lines of a trace:     {\"at_s\": 0.25, \"prompt_tokens\": 128, \"max_tokens\": 64}, times ascending, or "
      "\"prompt\",\n"
      "                      a text, instead of \"prompt_tokens\".\n"
      "Times count from when a request is due. Time between tokens: of tokens that come in one message, each has\n"
      "the same share of the time since the message before. Utilisation of a stage: the time it computed, of the\n"
      "time from the first step to the last, other clients' steps included.\n"
      "Ctrl-C ends the load and reports what there is. Exit code 1 if a request failed.");
  command->callback([flags, action] { *action = [flags] { return Run(*flags); }; });
}

}  // namespace tandem::cli
