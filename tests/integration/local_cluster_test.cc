// The whole path from request to answer in one process over in-memory links: what ThreadSanitizer can see.
#include "cli/local_cluster.h"

#include <cstring>
#include <latch>
#include <nlohmann/json.hpp>
#include <set>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/quant/activation_format.h"
#include "tests/integration/answers.h"

namespace tandem::testing {
namespace {

using ::testing::HasSubstr;

TEST(LocalClusterTest, AnswersAreTheSameOnAnyNumberOfWorkers) {
  const std::vector<v1::GenerateRequest> requests = EightRequests();
  auto one = TinyCluster(1);
  ASSERT_NE(one, nullptr);
  for (int workers : {2, 3, 4}) {
    auto split = TinyCluster(workers);
    ASSERT_NE(split, nullptr);
    for (const v1::GenerateRequest& request : requests) {
      const Answer expected = Ask(*one, request), answer = Ask(*split, request);
      ASSERT_TRUE(answer.status.ok()) << answer.status;
      EXPECT_EQ(answer.ids, expected.ids) << workers << " workers";
      EXPECT_EQ(answer.ids.size(), request.max_tokens());
      EXPECT_EQ(answer.last.finish_reason(), v1::FINISH_REASON_LENGTH);
    }
  }
}

TEST(LocalClusterTest, NarrowActivationsAnswerTheSameEachTime) {
  const v1::GenerateRequest request = IdsRequest({5, 6, 7, 8, 9}, 20);
  for (const engine::TensorType type : engine::ActivationTypes()) {
    Answer answers[2];
    for (Answer& answer : answers) {
      cli::LocalClusterOptions options;
      options.model_path = WriteTinyModel();
      options.workers = 3;
      options.threads = 1;
      options.isa = engine::DetectIsa();
      options.activations = type;
      auto cluster = cli::LocalCluster::Create(options);
      ASSERT_TRUE(cluster.ok()) << cluster.status();
      answer = Ask(**cluster, request);
      ASSERT_TRUE(answer.status.ok()) << answer.status;
      EXPECT_EQ(answer.ids.size(), 20u);
    }
    EXPECT_EQ(answers[0].ids, answers[1].ids) << engine::ActivationTypeName(type);
  }
}

// The weights are random, so what is said in order is the schema's doing alone.
TEST(LocalClusterTest, ConstrainedAnswersAreDocumentsOfTheSchemaOnAnyNumberOfWorkers) {
  auto one = TinyCluster(1), three = TinyCluster(3);
  ASSERT_NE(one, nullptr);
  ASSERT_NE(three, nullptr);
  v1::GenerateRequest request = IdsRequest({5, 6, 7}, 200);
  request.set_ignore_end_of_turn(false);
  request.set_json_schema(R"({"type":"object","properties":{"name":{"type":"string","maxLength":10},
    "tags":{"type":"array","items":{"enum":["red","gr\u00fcn"]},"minItems":1,"maxItems":3},
    "n":{"type":"integer","minimum":-50,"maximum":1000}},"required":["name","tags","n"]})");
  request.mutable_sampling()->set_temperature(1.5f);
  std::set<std::string> different;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    request.mutable_sampling()->set_seed(seed);
    const Answer answer = Ask(*one, request);
    ASSERT_TRUE(answer.status.ok()) << answer.status;
    EXPECT_EQ(answer.last.finish_reason(), v1::FINISH_REASON_STOP);
    const auto document = nlohmann::json::parse(answer.text, nullptr, false);
    ASSERT_FALSE(document.is_discarded()) << answer.text;
    ASSERT_EQ(document.size(), 3u) << answer.text;
    EXPECT_TRUE(document["name"].is_string());
    EXPECT_TRUE(document["tags"].size() >= 1 && document["tags"].size() <= 3);
    EXPECT_TRUE(document["n"] >= -50 && document["n"] <= 1000);
    different.insert(answer.text);
    if (seed % 5 == 0) {
      EXPECT_EQ(Ask(*three, request).ids, answer.ids);
    }
  }
  EXPECT_GT(different.size(), 10u);
}

TEST(LocalClusterTest, EightClientsAtOnceGetWhatEachGetsAlone) {
  const std::vector<v1::GenerateRequest> requests = EightRequests();
  auto cluster = TinyCluster(2);
  ASSERT_NE(cluster, nullptr);
  std::vector<Answer> alone, together(requests.size());
  for (const v1::GenerateRequest& request : requests) alone.push_back(Ask(*cluster, request));
  std::vector<std::thread> clients;
  for (size_t i = 0; i < requests.size(); ++i) {
    clients.emplace_back([&, i] { together[i] = Ask(*cluster, requests[i]); });
  }
  for (std::thread& client : clients) client.join();
  for (size_t i = 0; i < requests.size(); ++i) {
    ASSERT_TRUE(together[i].status.ok()) << together[i].status;
    EXPECT_EQ(together[i].ids, alone[i].ids) << "client " << i;
  }
}

TEST(LocalClusterTest, WhatOthersHaveComputedIsNotComputedAgainAndChangesNothing) {
  std::vector<uint32_t> first, second;
  for (uint32_t i = 0; i < 100; ++i) first.push_back(3 + i * 7 % 290);
  second.assign(first.begin(), first.begin() + 75);
  second.insert(second.end(), {11, 12, 13});
  auto cluster = TinyCluster(2), fresh = TinyCluster(2);
  ASSERT_NE(cluster, nullptr);
  ASSERT_NE(fresh, nullptr);
  EXPECT_EQ(Ask(*cluster, IdsRequest(first, 10)).last.usage().cached_tokens(), 0u);
  const Answer answer = Ask(*cluster, IdsRequest(second, 10));
  ASSERT_TRUE(answer.status.ok()) << answer.status;
  EXPECT_EQ(answer.last.usage().cached_tokens(), 75u) << "two pages of 32 tokens, and a copy of the third";
  EXPECT_EQ(answer.ids, Ask(*fresh, IdsRequest(second, 10)).ids);
}

// A tiny model soon repeats itself, so guesses are tried. How many depends on what steps take.
TEST(LocalClusterTest, GuessesChangeNoAnswer) {
  cli::LocalClusterOptions options;
  options.model_path = WriteTinyModel();
  options.workers = 2;
  options.threads = 1;
  auto guessing = cli::LocalCluster::Create(options);
  options.max_guessed_tokens = 0;
  auto plain = cli::LocalCluster::Create(options);
  ASSERT_TRUE(guessing.ok() && plain.ok()) << guessing.status() << plain.status();
  uint32_t guessed = 0;
  for (const float temperature : {0.0f, 0.3f, 1.0f}) {
    for (v1::GenerateRequest request : EightRequests()) {
      request.set_max_tokens(60);
      request.mutable_sampling()->set_temperature(temperature);
      request.mutable_sampling()->set_seed(7);
      request.mutable_sampling()->set_top_logprobs(1);
      request.mutable_sampling()->set_frequency_penalty(0.01f);
      const Answer with = Ask(**guessing, request), without = Ask(**plain, request);
      ASSERT_TRUE(with.status.ok() && without.status.ok()) << with.status << without.status;
      EXPECT_EQ(with.ids, without.ids);
      EXPECT_EQ(with.text, without.text);
      EXPECT_EQ(without.last.usage().guessed_tokens(), 0u);
      guessed += with.last.usage().guessed_tokens();
    }
  }
  EXPECT_GT(guessed, 0u);
}

TEST(LocalClusterTest, LogitsAreBitIdenticalOnAnyNumberOfWorkers) {
  std::vector<int32_t> ids;
  for (int i = 0; i < 70; ++i) ids.push_back(3 + i * 7 % 290);
  std::vector<std::vector<float>> logits;
  for (int workers : {1, 2, 4}) {
    auto cluster = TinyCluster(workers);
    ASSERT_NE(cluster, nullptr);
    std::vector<float> all;
    ASSERT_TRUE(
        cluster->Logits(ids, [&](std::span<const float> row) { all.insert(all.end(), row.begin(), row.end()); }).ok());
    ASSERT_EQ(all.size(), ids.size() * cluster->model().spec().vocab);
    logits.push_back(std::move(all));
  }
  EXPECT_EQ(std::memcmp(logits[0].data(), logits[1].data(), logits[0].size() * sizeof(float)), 0);
  EXPECT_EQ(std::memcmp(logits[0].data(), logits[2].data(), logits[0].size() * sizeof(float)), 0);
}

TEST(LocalClusterTest, CancelEndsTheAnswerAndFreesItsPages) {
  auto cluster = TinyCluster(2);
  ASSERT_NE(cluster, nullptr);
  std::latch begun(1), cancelled(1), done(1);
  absl::Status ended;
  auto generation =
      cluster->generator().Start(IdsRequest({5, 6, 7}, 200), [&](v1::GenerateResponse, bool last, absl::Status status) {
        if (!last && !begun.try_wait()) {
          begun.count_down();
          cancelled.wait();  // holds the dispatch thread, so that the answer cannot end by itself
        }
        if (!last) return;
        ended = status;
        done.count_down();
      });
  ASSERT_TRUE(generation.ok()) << generation.status();
  begun.wait();
  (*generation)->Cancel();
  cancelled.count_down();
  done.wait();
  EXPECT_TRUE(absl::IsCancelled(ended)) << ended;
  // What a later request needs is free again, and nothing is left behind it.
  EXPECT_TRUE(Ask(*cluster, IdsRequest(std::vector<uint32_t>(230, 9), 20)).status.ok());
  cluster->dispatcher().Stop();
  EXPECT_EQ(cluster->dispatcher().stats().running, 0);
  EXPECT_EQ(cluster->dispatcher().stats().kv_pages_used, 0);
}

TEST(LocalClusterTest, MoreWorkersThanLayersIsRefusedWithTheNumbers) {
  cli::LocalClusterOptions options;
  options.model_path = WriteTinyModel();
  options.workers = 9;
  const auto cluster = cli::LocalCluster::Create(options);
  EXPECT_TRUE(absl::IsInvalidArgument(cluster.status()));
  EXPECT_THAT(std::string(cluster.status().message()), HasSubstr("9"));
  EXPECT_THAT(std::string(cluster.status().message()), HasSubstr("4 layers"));
}

TEST(LocalClusterTest, ContextBeyondTheModelsIsRefusedWithTheNumbers) {
  cli::LocalClusterOptions options;
  options.model_path = WriteTinyModel();
  options.context = 100000;
  const auto cluster = cli::LocalCluster::Create(options);
  EXPECT_TRUE(absl::IsInvalidArgument(cluster.status()));
  EXPECT_THAT(std::string(cluster.status().message()), HasSubstr("100000"));
}

TEST(LocalClusterTest, EndsWithContextWhenItIsFull) {
  auto cluster = TinyCluster(2);
  ASSERT_NE(cluster, nullptr);
  v1::GenerateRequest request = IdsRequest({5, 6, 7}, 1);
  request.clear_max_tokens();
  const Answer answer = Ask(*cluster, request);
  ASSERT_TRUE(answer.status.ok()) << answer.status;
  EXPECT_EQ(answer.last.finish_reason(), v1::FINISH_REASON_CONTEXT);
  EXPECT_EQ(answer.last.usage().prompt_tokens() + answer.last.usage().generated_tokens(), 256u);
}

}  // namespace
}  // namespace tandem::testing
