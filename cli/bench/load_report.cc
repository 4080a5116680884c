#include "cli/bench/load_report.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace tandem::cli {

double Percentile(std::span<const double> sorted, double p) {
  if (sorted.empty()) return 0;
  const double place = p * static_cast<double>(sorted.size() - 1);
  const size_t below = std::min(static_cast<size_t>(place), sorted.size() - 1);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (sorted[above] - sorted[below]) * (place - static_cast<double>(below));
}

Spread SpreadOf(std::vector<double> values) {
  Spread spread;
  if (values.empty()) return spread;
  std::sort(values.begin(), values.end());
  spread.count = values.size();
  spread.mean = std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
  spread.p50 = Percentile(values, 0.5);
  spread.p90 = Percentile(values, 0.9);
  spread.p99 = Percentile(values, 0.99);
  spread.most = values.back();
  return spread;
}

LoadReport MakeReport(std::span<const RequestRecord> records) {
  LoadReport report;
  std::vector<double> first_token_s, between_tokens_s, latency_s;
  for (const RequestRecord& record : records) {
    report.wall_s = std::max(report.wall_s, record.end_s);
    report.most_late_s = std::max(report.most_late_s, record.sent_s - record.due_s);
    report.answer_tokens += record.answer_tokens;
    report.guessed_tokens += record.guessed_tokens;
    report.right_guesses += record.right_guesses;
    if (record.answer_tokens > 0) {
      report.prompt_tokens += record.prompt_tokens;
      report.cached_tokens += record.cached_tokens;
      first_token_s.push_back(record.first_token_s - record.due_s);
    }
    between_tokens_s.insert(between_tokens_s.end(), record.gaps_s.begin(), record.gaps_s.end());
    if (record.cut_off) {
      ++report.cut_off;
    } else if (record.status.ok()) {
      ++report.ok;
      report.short_answers += record.answer_tokens < record.wanted_tokens ? 1 : 0;
      latency_s.push_back(record.end_s - record.due_s);
    } else {
      if (report.failed++ == 0) report.first_error = std::string(record.status.message());
      ++report.errors[absl::StatusCodeToString(record.status.code())];
    }
  }
  report.first_token_s = SpreadOf(std::move(first_token_s));
  report.between_tokens_s = SpreadOf(std::move(between_tokens_s));
  report.latency_s = SpreadOf(std::move(latency_s));
  return report;
}

}  // namespace tandem::cli
