// A draft model in a whole cluster: any model with the same tokenizer, right or wrong, and the answers stay the same.
#include "coordinator/draft/draft_model.h"

#include <future>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/integration/answers.h"
#include "tests/support/tiny_model.h"

namespace tandem::testing {
namespace {

using ::testing::HasSubstr;

std::string WriteDraft(const std::string& name, const TinyModelShape& shape) {
  const std::string path = ::testing::TempDir() + "/" + name + ".gguf";
  EXPECT_TRUE(MakeTinyModel(shape).Write(path).ok());
  return path;
}

cli::LocalClusterOptions Options(int workers) {
  cli::LocalClusterOptions options;
  options.model_path = WriteTinyModel();
  options.workers = workers;
  options.threads = options.draft_threads = 1;
  return options;
}

TEST(DraftModelTest, AnswersAreThoseWithoutDrafts) {
  cli::LocalClusterOptions options = Options(3);
  options.max_guessed_tokens = 0;
  auto plain = cli::LocalCluster::Create(options);
  ASSERT_TRUE(plain.ok()) << plain.status();
  TinyModelShape other;
  other.layers = 1;
  other.seed = 5;
  // Of a shorter context, so that it cannot follow to the end.
  other.context = 40;
  for (const std::string& draft : {WriteTinyModel(), WriteDraft("other", other)}) {
    options = Options(3);
    options.draft_path = draft;
    auto drafted = cli::LocalCluster::Create(options);
    ASSERT_TRUE(drafted.ok()) << drafted.status();
    for (const float temperature : {0.0f, 1.0f}) {
      for (v1::GenerateRequest request : EightRequests()) {
        request.set_max_tokens(60);
        request.mutable_sampling()->set_temperature(temperature);
        request.mutable_sampling()->set_seed(7);
        request.mutable_sampling()->set_frequency_penalty(0.3f);
        const Answer with = Ask(**drafted, request), without = Ask(**plain, request);
        ASSERT_TRUE(with.status.ok() && without.status.ok()) << with.status << without.status;
        EXPECT_EQ(with.ids, without.ids);
      }
    }
  }
}

TEST(DraftModelTest, DraftsAreTheModelsOwnDraws) {
  cli::LocalClusterOptions options = Options(1);
  auto cluster = cli::LocalCluster::Create(options);
  ASSERT_TRUE(cluster.ok()) << cluster.status();
  auto model =
      coordinator::DraftModel::Load((*cluster)->model().tokenizer(), {.path = options.model_path, .threads = 1});
  ASSERT_TRUE(model.ok()) << model.status();
  v1::GenerateRequest request = IdsRequest({5, 6, 7}, 12);
  request.mutable_sampling()->set_temperature(1.0f);
  request.mutable_sampling()->set_seed(3);
  const Answer answer = Ask(**cluster, request);
  ASSERT_EQ(answer.ids.size(), 12u);
  for (const size_t known : {0u, 4u, 9u}) {
    coordinator::DraftTask task;
    task.sequence = 1;
    task.tokens = {5, 6, 7};
    task.tokens.insert(task.tokens.end(), answer.ids.begin(), answer.ids.begin() + static_cast<ptrdiff_t>(known));
    task.sampling = request.sampling();
    task.count = 3;
    std::promise<std::vector<int32_t>> done;
    (*model)->Draft(task, [&done](std::vector<int32_t> tokens) { done.set_value(std::move(tokens)); });
    const std::vector<int32_t> drafted = done.get_future().get();
    EXPECT_EQ(std::vector<uint32_t>(drafted.begin(), drafted.end()),
              std::vector<uint32_t>(answer.ids.begin() + static_cast<ptrdiff_t>(known),
                                    answer.ids.begin() + static_cast<ptrdiff_t>(known) + 3));
  }
}

TEST(DraftModelTest, WhatItCannotReadItDoesNotDraft) {
  auto cluster = TinyCluster(1);
  auto model = coordinator::DraftModel::Load(cluster->model().tokenizer(),
                                             {.path = WriteTinyModel(), .threads = 1, .context = 8});
  ASSERT_TRUE(model.ok()) << model.status();
  for (const std::vector<int32_t>& tokens : {std::vector<int32_t>(20, 5), std::vector<int32_t>{100000}}) {
    coordinator::DraftTask task;
    task.tokens = tokens;
    task.count = 3;
    std::promise<std::vector<int32_t>> done;
    (*model)->Draft(task, [&done](std::vector<int32_t> drafted) { done.set_value(std::move(drafted)); });
    EXPECT_TRUE(done.get_future().get().empty());
  }
}

TEST(DraftModelTest, AnotherTokenizerIsRefused) {
  cli::LocalClusterOptions options = Options(1);
  TinyModelShape other;
  other.vocab = TinyVocab::kByteBpe;
  options.draft_path = WriteDraft("bpe", other);
  const auto cluster = cli::LocalCluster::Create(options);
  ASSERT_FALSE(cluster.ok());
  EXPECT_EQ(cluster.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(cluster.status().message()),
              HasSubstr("bpe.gguf: the draft model has another tokenizer: token 0 "));
}

TEST(DraftModelTest, MoreTokensAtTheEndAreNoOtherTokenizer) {
  cli::LocalClusterOptions options = Options(1);
  TinyModelShape other;
  other.vocab_size = 340;
  options.draft_path = WriteDraft("padded", other);
  const auto cluster = cli::LocalCluster::Create(options);
  EXPECT_TRUE(cluster.ok()) << cluster.status();
}

}  // namespace
}  // namespace tandem::testing
