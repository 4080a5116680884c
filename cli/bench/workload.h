// The requests of a load, made one after the other: when each comes and what it asks.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "cli/bench/length_distribution.h"
#include "cli/bench/random.h"
#include "cli/bench/request_trace.h"
#include "tandem/v1/generate.pb.h"

namespace tandem::cli {

// What prompts are made of; not empty.
struct TokenSource {
  std::vector<uint32_t> ids;
  // True: prompts are pieces of this text, beginning anywhere and going on at its start. False: each token is any of
  // them.
  bool in_order = false;
};

struct WorkloadOptions {
  std::string model;  // empty: the one served
  TokenSource source;
  LengthDistribution prompt_tokens, answer_tokens;
  uint32_t shared_prefix = 0;     // tokens in front of every prompt, the same ones
  double rate = 0;                // requests a second of a Poisson process; 0: all at once
  std::vector<TraceEntry> trace;  // if not empty, times and lengths are its own
  float temperature = 0;
  uint64_t seed = 0;
};

struct Arrival {
  double at_s = 0;  // since the load began; ascending
  v1::GenerateRequest request;
};

// The same options give the same requests, however fast they are taken. Thread-compatible.
class Workload {
 public:
  // A prompt with its answer must fit. Errors: kInvalidArgument with the numbers.
  static absl::Status CheckFits(const WorkloadOptions& options, uint32_t context);

  explicit Workload(WorkloadOptions options);
  // Nothing: the trace has ended.
  std::optional<Arrival> Next();

 private:
  void AppendTokens(uint32_t count, v1::TokenIds* ids);

  const WorkloadOptions options_;
  Random arrivals_, lengths_, tokens_;
  v1::TokenIds prefix_;
  double at_s_ = 0;
  size_t next_ = 0;  // in the trace, and of all
};

}  // namespace tandem::cli
