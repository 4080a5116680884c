// What a load was served with, from the records of its requests.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace tandem::cli {

// One request, as its client saw it. Seconds since the load began.
struct RequestRecord {
  double due_s = 0;          // when it should be sent
  double sent_s = 0;         // when it was
  double first_token_s = 0;  // with answer_tokens > 0
  double end_s = 0;
  // Between one token and the next: one less than tokens. Of tokens that came in one message each has the same share of
  // the time since the message before.
  std::vector<double> gaps_s;
  uint32_t prompt_tokens = 0;  // as the server counts them; 0 if it did not say
  uint32_t cached_tokens = 0;  // of those, that it did not have to compute
  uint32_t answer_tokens = 0;
  uint32_t guessed_tokens = 0, right_guesses = 0;  // ahead of the answer
  uint32_t wanted_tokens = 0;                      // of the answer
  absl::Status status;
  bool cut_off = false;  // by Ctrl-C; `status` does not count
};

// The value below which the share `p` (0..1) of `sorted`, ascending, lies: linear between the two nearest. 0 of
// nothing.
double Percentile(std::span<const double> sorted, double p);

struct Spread {
  uint64_t count = 0;
  double mean = 0, p50 = 0, p90 = 0, p99 = 0, most = 0;
};
Spread SpreadOf(std::vector<double> values);

struct LoadReport {
  double wall_s = 0;  // until the last request ended
  uint64_t ok = 0, failed = 0, cut_off = 0;
  std::map<std::string, uint64_t> errors;  // of those that failed: how many by the name of the status
  std::string first_error;                 // its text
  uint64_t short_answers = 0;              // ended well with fewer tokens than wanted
  // Of requests that came to their first token, and of every token received.
  uint64_t prompt_tokens = 0, cached_tokens = 0, answer_tokens = 0;
  uint64_t guessed_tokens = 0, right_guesses = 0;
  // Times from when the request was due, so that a client that falls behind hides nothing. Latency: of those that ended
  // well.
  Spread first_token_s, between_tokens_s, latency_s;
  double most_late_s = 0;  // longest time from due to sent

  uint64_t requests() const { return ok + failed + cut_off; }
  // Of a total, a second.
  double PerSecond(uint64_t total) const { return wall_s > 0 ? static_cast<double>(total) / wall_s : 0; }
};
LoadReport MakeReport(std::span<const RequestRecord> records);

}  // namespace tandem::cli
