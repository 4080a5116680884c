// Requests and collected answers for integration tests.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/local_cluster.h"
#include "tandem/v1/generate.pb.h"

namespace tandem::testing {

struct Answer {
  absl::Status status;
  std::vector<uint32_t> ids;
  std::vector<float> logprobs;  // of the tokens drawn, if asked for
  std::string text;
  v1::GenerateResponse last;
};

// Eight prompts of different lengths, some longer than a KV page, as token ids of any vocabulary of at least 300.
std::vector<v1::GenerateRequest> EightRequests();
// A tiny model's file in the test's temporary folder; the same content on each call.
std::string WriteTinyModel();
// A prompt, greedy, of `max_tokens`, that does not end at an end-of-turn token.
v1::GenerateRequest IdsRequest(const std::vector<uint32_t>& ids, uint32_t max_tokens);

// Runs the request and waits for its end.
Answer Ask(cli::LocalCluster& cluster, const v1::GenerateRequest& request);
// An embedded cluster of the tiny model.
std::unique_ptr<cli::LocalCluster> TinyCluster(int workers);

}  // namespace tandem::testing
