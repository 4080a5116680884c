#include "cli/bench/report_text.h"

#include <algorithm>
#include <vector>

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace tandem::cli {
namespace {

using Json = nlohmann::ordered_json;

void AddSpread(const char* name, const Spread& spread, std::string* table) {
  if (spread.count == 0) return;
  absl::StrAppendFormat(table, "%-26s %9.2f %9.2f %9.2f %9.2f %9.2f\n", name, spread.mean * 1e3, spread.p50 * 1e3,
                        spread.p90 * 1e3, spread.p99 * 1e3, spread.most * 1e3);
}

// Longer tables are for nobody to read; JSON has them all.
constexpr size_t kMaxStageLines = 32;

Json JsonOf(const Spread& spread) {
  return {{"count", spread.count}, {"mean", spread.mean}, {"p50", spread.p50},
          {"p90", spread.p90},     {"p99", spread.p99},   {"max", spread.most}};
}

void AddStages(const StageTimeline& timeline, std::string* table) {
  absl::StrAppendFormat(table, "\n%d steps in %.2f s: %d tokens of prompts, %d of answers\n", timeline.num_steps(),
                        timeline.wall_s(), timeline.prefill_tokens(), timeline.decode_tokens());
  if (timeline.lost_steps() > 0) {
    absl::StrAppendFormat(table, "%d more steps were lost, so the stages were busier than this:\n",
                          timeline.lost_steps());
  }
  if (timeline.stages().size() > kMaxStageLines) {
    std::vector<double> shares;
    for (const StageUse& stage : timeline.stages()) shares.push_back(stage.utilisation * 100);
    const auto [least, most] = std::minmax_element(shares.begin(), shares.end());
    absl::StrAppendFormat(table, "utilisation of %d stages: mean %.1f %%, least %.1f %%, most %.1f %%\n", shares.size(),
                          SpreadOf(shares).mean, *least, *most);
    return;
  }
  absl::StrAppend(table, "stage  utilisation  computing, s   waiting, s\n");
  for (const StageUse& stage : timeline.stages()) {
    absl::StrAppendFormat(table, "%5s  %9.1f %%  %12.2f %12.2f\n", timeline.NameOf(stage), stage.utilisation * 100,
                          stage.compute_s, stage.queue_s);
  }
}

}  // namespace

std::string ReportTable(const LoadDescription& load, const LoadReport& report, const StageTimeline& timeline) {
  std::string table = absl::StrFormat("%s at %s; %s; seed %d\n", load.model, load.server, load.arrivals, load.seed);
  absl::StrAppendFormat(&table, "requests  %d ok, %d failed", report.ok, report.failed);
  if (report.cut_off > 0) absl::StrAppendFormat(&table, ", %d cut off", report.cut_off);
  absl::StrAppendFormat(&table, " in %.2f s: %.2f a second\n", report.wall_s, report.PerSecond(report.ok));
  absl::StrAppendFormat(&table, "prompts   %d tokens, %.1f a second", report.prompt_tokens,
                        report.PerSecond(report.prompt_tokens));
  if (report.cached_tokens > 0) absl::StrAppendFormat(&table, "; %d were computed before", report.cached_tokens);
  absl::StrAppend(&table, "\n");
  absl::StrAppendFormat(&table, "answers   %d tokens, %.1f a second", report.answer_tokens,
                        report.PerSecond(report.answer_tokens));
  if (report.guessed_tokens > 0) {
    absl::StrAppendFormat(&table, "; %d of %d guesses right", report.right_guesses, report.guessed_tokens);
  }
  absl::StrAppend(&table, "\n");
  for (const auto& [status, count] : report.errors) absl::StrAppendFormat(&table, "failed    %d x %s\n", count, status);
  if (!report.first_error.empty()) absl::StrAppend(&table, "          the first: ", report.first_error, "\n");
  if (report.short_answers > 0) {
    absl::StrAppendFormat(&table, "%d answers ended before their length: the context was full\n", report.short_answers);
  }
  if (report.most_late_s > 0.1) {
    absl::StrAppendFormat(&table, "this client fell behind by up to %.2f s: it is too slow for such a load\n",
                          report.most_late_s);
  }
  absl::StrAppendFormat(&table, "\n%-26s %9s %9s %9s %9s %9s\n", "milliseconds", "mean", "p50", "p90", "p99", "max");
  AddSpread("time to first token", report.first_token_s, &table);
  AddSpread("time between tokens", report.between_tokens_s, &table);
  AddSpread("whole answer", report.latency_s, &table);
  if (load.no_stages_because.empty()) {
    AddStages(timeline, &table);
  } else {
    absl::StrAppend(&table, "\nno utilisation of stages: ", load.no_stages_because, "\n");
  }
  return table;
}

std::string ReportJson(const LoadDescription& load, const LoadReport& report, const StageTimeline& timeline) {
  Json json = {{"server", load.server},
               {"model", load.model},
               {"load",
                {{"arrivals", load.arrivals},
                 {"prompt_tokens", load.prompt_tokens},
                 {"answer_tokens", load.answer_tokens},
                 {"shared_prefix", load.shared_prefix},
                 {"seed", load.seed}}},
               {"requests", {{"ok", report.ok}, {"failed", report.failed}, {"cut_off", report.cut_off}}},
               {"errors", report.errors},
               {"first_error", report.first_error},
               {"short_answers", report.short_answers},
               {"wall_s", report.wall_s},
               {"most_late_s", report.most_late_s},
               {"requests_per_s", report.PerSecond(report.ok)},
               {"prompt_tokens", report.prompt_tokens},
               {"cached_tokens", report.cached_tokens},
               {"prompt_tokens_per_s", report.PerSecond(report.prompt_tokens)},
               {"answer_tokens", report.answer_tokens},
               {"guessed_tokens", report.guessed_tokens},
               {"right_guesses", report.right_guesses},
               {"answer_tokens_per_s", report.PerSecond(report.answer_tokens)},
               {"time_to_first_token_s", JsonOf(report.first_token_s)},
               {"time_between_tokens_s", JsonOf(report.between_tokens_s)},
               {"latency_s", JsonOf(report.latency_s)}};
  if (load.no_stages_because.empty()) {
    json["steps"] = {{"count", timeline.num_steps()},
                     {"lost", timeline.lost_steps()},
                     {"wall_s", timeline.wall_s()},
                     {"prefill_tokens", timeline.prefill_tokens()},
                     {"decode_tokens", timeline.decode_tokens()}};
    json["stages"] = Json::array();
    for (const StageUse& stage : timeline.stages()) {
      json["stages"].push_back({{"pipeline", stage.pipeline},
                                {"stage", stage.stage},
                                {"utilisation", stage.utilisation},
                                {"compute_s", stage.compute_s},
                                {"queue_s", stage.queue_s}});
    }
  } else {
    json["no_stages_because"] = load.no_stages_because;
  }
  // Texts that servers sent may be no UTF-8.
  return json.dump(2, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace) + "\n";
}

}  // namespace tandem::cli
