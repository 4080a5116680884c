#include "tests/integration/answers.h"

#include <latch>

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_model.h"

namespace tandem::testing {

v1::GenerateRequest IdsRequest(const std::vector<uint32_t>& ids, uint32_t max_tokens) {
  v1::GenerateRequest request;
  for (uint32_t id : ids) request.mutable_ids()->add_ids(id);
  request.set_max_tokens(max_tokens);
  request.set_ignore_end_of_turn(true);
  return request;
}

std::vector<v1::GenerateRequest> EightRequests() {
  std::vector<v1::GenerateRequest> requests;
  for (uint32_t client = 0; client < 8; ++client) {
    std::vector<uint32_t> ids;
    for (uint32_t i = 0; i < 3 + 9 * client; ++i) ids.push_back(3 + (client * 37 + i * 11) % 290);
    requests.push_back(IdsRequest(ids, 24 + client));
    if (client % 2 == 1) {  // half of them draw, with penalties
      v1::Sampling& sampling = *requests.back().mutable_sampling();
      sampling.set_temperature(0.9f);
      sampling.set_top_k(40);
      sampling.set_seed(1000 + client);
      sampling.set_repetition_penalty(1.1f);
    }
  }
  return requests;
}

std::string WriteTinyModel() {
  const std::string path = absl::StrCat(TempFolder(), "/tiny.gguf");
  const absl::Status written = MakeTinyModel({.layers = 4}).Write(path);
  EXPECT_TRUE(written.ok()) << written;
  return path;
}

Answer Ask(cli::LocalCluster& cluster, const v1::GenerateRequest& request) {
  Answer answer;
  std::latch done(1);
  auto generation =
      cluster.generator().Start(request, [&](v1::GenerateResponse response, bool last, absl::Status status) {
        answer.ids.insert(answer.ids.end(), response.ids().begin(), response.ids().end());
        for (const v1::Logprobs& each : response.logprobs()) answer.logprobs.push_back(each.logprob());
        answer.text += response.text();
        if (!last) return;
        answer.last = std::move(response);
        answer.status = std::move(status);
        done.count_down();
      });
  if (!generation.ok()) {
    answer.status = generation.status();
    return answer;
  }
  done.wait();
  return answer;
}

std::unique_ptr<cli::LocalCluster> TinyCluster(int workers) {
  cli::LocalClusterOptions options;
  options.model_path = WriteTinyModel();
  options.workers = workers;
  options.threads = 1;
  options.isa = engine::DetectIsa();
  options.sequences = 8;
  auto cluster = cli::LocalCluster::Create(options);
  EXPECT_TRUE(cluster.ok()) << cluster.status();
  return cluster.ok() ? *std::move(cluster) : nullptr;
}

}  // namespace tandem::testing
