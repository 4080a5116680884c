// Answers that go on at the end of the context, with a model that computes.
#include <algorithm>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "tests/integration/answers.h"

namespace tandem::testing {
namespace {

constexpr size_t kContext = 256;  // of the tiny model

std::vector<uint32_t> Ids(size_t count, uint32_t first = 5) {
  std::vector<uint32_t> ids;
  for (uint32_t i = 0; i < count; ++i) ids.push_back(3 + (first + i * 7) % 290);
  return ids;
}

v1::GenerateRequest ShiftRequest(const std::vector<uint32_t>& ids, uint32_t max_tokens, uint32_t keep) {
  v1::GenerateRequest request = IdsRequest(ids, max_tokens);
  request.set_at_context_end(v1::AT_CONTEXT_END_SHIFT);
  request.set_keep(keep);
  request.mutable_sampling()->set_top_logprobs(0);
  return request;
}

std::unique_ptr<cli::LocalCluster> Cluster(int workers, engine::KvType kv_type, int32_t sequences) {
  cli::LocalClusterOptions options;
  options.model_path = WriteTinyModel();
  options.workers = workers;
  options.threads = 1;
  options.isa = engine::DetectIsa();
  options.kv_type = kv_type;
  options.sequences = sequences;
  auto cluster = cli::LocalCluster::Create(options);
  EXPECT_TRUE(cluster.ok()) << cluster.status();
  return cluster.ok() ? *std::move(cluster) : nullptr;
}

TEST(ContextShiftTest, AfterAShiftTheAnswerIsThatOfARequestWithTheTokensLeft) {
  constexpr size_t kKeep = 10, kNewest = (kContext - kKeep) / 2;
  for (const engine::KvType kv_type : {engine::KvType::kF16, engine::KvType::kF32}) {
    auto cluster = Cluster(2, kv_type, 1), fresh = Cluster(1, kv_type, 1);
    ASSERT_TRUE(cluster != nullptr && fresh != nullptr);
    const std::vector<uint32_t> prompt = Ids(100);
    const Answer answer = Ask(*cluster, ShiftRequest(prompt, 400, kKeep));
    ASSERT_TRUE(answer.status.ok()) << answer.status;
    EXPECT_EQ(answer.last.finish_reason(), v1::FINISH_REASON_LENGTH);
    EXPECT_EQ(answer.last.usage().prompt_tokens(), 100u);
    EXPECT_EQ(answer.last.usage().context_shifts(), 2u);
    ASSERT_EQ(answer.ids.size(), 400u);
    ASSERT_EQ(answer.logprobs.size(), 400u);
    std::vector<uint32_t> text = prompt;
    text.insert(text.end(), answer.ids.begin(), answer.ids.end());
    for (size_t end = kContext; end < text.size(); end += kContext - kKeep - kNewest) {
      std::vector<uint32_t> left(text.begin(), text.begin() + kKeep);
      left.insert(left.end(), text.begin() + end - kNewest, text.begin() + end);
      const size_t count = std::min(kContext - left.size(), text.size() - end);
      const Answer expected = Ask(*fresh, ShiftRequest(left, count, 0));
      ASSERT_TRUE(expected.status.ok()) << expected.status;
      const size_t first = end - prompt.size();
      EXPECT_TRUE(std::equal(expected.ids.begin(), expected.ids.end(), answer.ids.begin() + first));
      EXPECT_TRUE(std::equal(expected.logprobs.begin(), expected.logprobs.end(), answer.logprobs.begin() + first));
    }
  }
}

TEST(ContextShiftTest, SampledAnswersAreTheSameAloneAndAmongOthersThatTakeTheirPages) {
  auto alone = Cluster(1, engine::KvType::kF16, 1), crowded = Cluster(2, engine::KvType::kF16, 2);
  ASSERT_TRUE(alone != nullptr && crowded != nullptr);
  std::vector<v1::GenerateRequest> requests;
  for (uint32_t i = 0; i < 6; ++i) {
    requests.push_back(ShiftRequest(Ids(20 + 30 * i, 37 * i), 350, 16 * i));
    requests.back().mutable_sampling()->set_temperature(1.0f);
    requests.back().mutable_sampling()->set_seed(i);
    requests.back().mutable_sampling()->set_repetition_penalty(1.2f);
  }
  std::vector<Answer> answers(requests.size());
  std::vector<std::thread> clients;
  for (size_t i = 0; i < requests.size(); ++i) {
    clients.emplace_back([&, i] { answers[i] = Ask(*crowded, requests[i]); });
  }
  for (std::thread& client : clients) client.join();
  for (size_t i = 0; i < requests.size(); ++i) {
    const Answer expected = Ask(*alone, requests[i]);
    ASSERT_TRUE(answers[i].status.ok() && expected.status.ok()) << answers[i].status << expected.status;
    EXPECT_EQ(answers[i].ids, expected.ids) << "client " << i;
    EXPECT_EQ(answers[i].logprobs, expected.logprobs) << "client " << i;
    EXPECT_GE(expected.last.usage().context_shifts(), 1u);
    EXPECT_EQ(answers[i].last.usage().context_shifts(), expected.last.usage().context_shifts());
  }
}

// So hot that a token says little but which random number drew it.
TEST(ContextShiftTest, RandomNumbersDoNotComeAgainWithTheirPositions) {
  auto cluster = TinyCluster(1);
  ASSERT_NE(cluster, nullptr);
  v1::GenerateRequest request = ShiftRequest(Ids(3), 379, 0);
  request.mutable_sampling()->set_temperature(100.0f);
  request.mutable_sampling()->set_seed(1);
  const Answer answer = Ask(*cluster, request);
  ASSERT_EQ(answer.ids.size(), 379u) << answer.status;
  EXPECT_EQ(answer.last.usage().context_shifts(), 1u);
  int alike = 0;  // with the token drawn at the same position before the shift
  for (size_t place = kContext; place < 3 + answer.ids.size(); ++place) {
    const int64_t now = answer.ids[place - 3], before = answer.ids[place - kContext / 2 - 3];
    alike += std::abs(now - before) <= 1;
  }
  EXPECT_LT(alike, 12) << "of 126";
}

}  // namespace
}  // namespace tandem::testing
