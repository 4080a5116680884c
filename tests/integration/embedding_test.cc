// Embeddings over the whole path in one process: against the states that the head sees, and the same bits however the
// work is cut.
#include <cmath>
#include <cstring>
#include <latch>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "tests/integration/answers.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_model.h"

namespace tandem::testing {
namespace {

using ::testing::HasSubstr;

// A model whose head is the identity: its logits are its hidden states behind the output norm.
std::string WriteIdentityHeadModel(uint32_t pooling_type = 0) {
  constexpr int kHidden = 320;
  TinyModel model = MakeTinyModel({.layers = 4, .hidden = kHidden, .vocab_size = kHidden});
  std::vector<float> identity(kHidden * kHidden);
  for (int i = 0; i < kHidden; ++i) identity[i * kHidden + i] = 1.0f;
  model.SetTensor("output.weight", engine::TensorType::kF32, {kHidden, kHidden}, identity);
  if (pooling_type != 0) model.metadata["llama.pooling_type"] = pooling_type;
  const std::string path = absl::StrCat(TempFolder(), "/identity.gguf");
  EXPECT_TRUE(model.Write(path).ok());
  return path;
}

std::unique_ptr<cli::LocalCluster> MakeCluster(const std::string& path, int workers, int32_t max_step_tokens = 512,
                                               int32_t sequences = 8) {
  cli::LocalClusterOptions options;
  options.model_path = path;
  options.workers = workers;
  options.threads = 1;
  options.isa = engine::DetectIsa();
  options.sequences = sequences;
  options.max_step_tokens = max_step_tokens;
  auto cluster = cli::LocalCluster::Create(options);
  EXPECT_TRUE(cluster.ok()) << cluster.status();
  return cluster.ok() ? *std::move(cluster) : nullptr;
}

std::vector<int32_t> Ids(int count, int start) {
  std::vector<int32_t> ids;
  for (int i = 0; i < count; ++i) ids.push_back(3 + (start + i * 7) % 290);
  return ids;
}

void AddIds(const std::vector<int32_t>& ids, v1::EmbedRequest* request) {
  v1::TokenIds* to = request->add_inputs()->mutable_ids();
  for (int32_t id : ids) to->add_ids(id);
}

v1::EmbedRequest IdsInputs(v1::Pooling pooling, bool normalize) {
  v1::EmbedRequest request;
  request.set_pooling(pooling);
  request.set_normalize(normalize);
  for (int i = 0; i < 6; ++i) AddIds(Ids(1 + 37 * i, i), &request);
  return request;
}

absl::StatusOr<v1::EmbedResponse> Embed(cli::LocalCluster& cluster, const v1::EmbedRequest& request) {
  Interrupt interrupt;
  return cluster.Embed(request, interrupt);
}

// The definition, in double, from all logits.
std::vector<double> Pooled(cli::LocalCluster& cluster, const std::vector<int32_t>& ids, v1::Pooling pooling,
                           bool normalize) {
  std::vector<std::vector<float>> rows;
  EXPECT_TRUE(cluster.Logits(ids, [&](std::span<const float> row) { rows.emplace_back(row.begin(), row.end()); }).ok());
  std::vector<double> values(rows.at(0).size());
  for (size_t i = 0; i < values.size(); ++i) {
    if (pooling == v1::POOLING_CLS) values[i] = rows.front()[i];
    if (pooling == v1::POOLING_LAST) values[i] = rows.back()[i];
    if (pooling == v1::POOLING_MEAN) {
      for (const auto& row : rows) values[i] += static_cast<double>(row[i]) / static_cast<double>(rows.size());
    }
  }
  double squares = 0;
  for (double value : values) squares += value * value;
  for (double& value : values) value /= normalize ? std::sqrt(squares) : 1.0;
  return values;
}

TEST(EmbeddingTest, EqualsTheDefinitionInDouble) {
  auto cluster = MakeCluster(WriteIdentityHeadModel(), 2);
  for (v1::Pooling pooling : {v1::POOLING_MEAN, v1::POOLING_LAST, v1::POOLING_CLS}) {
    for (bool normalize : {true, false}) {
      const auto response = Embed(*cluster, IdsInputs(pooling, normalize));
      ASSERT_TRUE(response.ok()) << response.status();
      EXPECT_EQ(response->pooling(), pooling);
      ASSERT_EQ(response->embeddings_size(), 6);
      for (int i = 0; i < 6; ++i) {
        const v1::Embedding& embedding = response->embeddings(i);
        const std::vector<double> expected = Pooled(*cluster, Ids(1 + 37 * i, i), pooling, normalize);
        EXPECT_EQ(embedding.tokens(), 1u + 37 * i);
        ASSERT_EQ(embedding.values_size(), 320);
        // Half a unit of a state's rounding (2^-29), and half an ulp of the float that is returned.
        for (int k = 0; k < 320; ++k) {
          EXPECT_NEAR(embedding.values(k), expected[k], 2e-9 + std::fabs(expected[k]) * 0x1p-23);
        }
      }
    }
  }
}

TEST(EmbeddingTest, NoBitDependsOnSplitChunksOrBatchMates) {
  const std::string path = WriteIdentityHeadModel();
  for (v1::Pooling pooling : {v1::POOLING_MEAN, v1::POOLING_LAST, v1::POOLING_CLS}) {
    const v1::EmbedRequest request = IdsInputs(pooling, true);
    std::string expected;
    for (const auto& [workers, max_step_tokens] :
         std::vector<std::pair<int, int>>{{1, 512}, {2, 512}, {4, 512}, {1, 23}, {3, 7}}) {
      auto cluster = MakeCluster(path, workers, max_step_tokens);
      const auto together = Embed(*cluster, request);
      ASSERT_TRUE(together.ok()) << together.status();
      if (expected.empty()) expected = together->SerializeAsString();
      EXPECT_EQ(together->SerializeAsString(), expected) << workers << " workers, " << max_step_tokens << " tokens";
    }
    auto cluster = MakeCluster(path, 2, 512, /*sequences=*/1);  // too few pages for all at once
    v1::EmbedResponse apart;
    apart.set_pooling(pooling);
    std::thread generates([&] { EXPECT_TRUE(Ask(*cluster, IdsRequest({5, 6, 7}, 100)).status.ok()); });
    for (const v1::EmbedInput& input : request.inputs()) {
      v1::EmbedRequest one = request;
      one.clear_inputs();
      *one.add_inputs() = input;
      const auto response = Embed(*cluster, one);
      ASSERT_TRUE(response.ok()) << response.status();
      *apart.add_embeddings() = response->embeddings(0);
    }
    generates.join();
    EXPECT_EQ(apart.SerializeAsString(), expected);
  }
}

TEST(EmbeddingTest, PoolingIsTheFilesUnlessAsked) {
  v1::EmbedRequest request;
  request.add_inputs()->set_text("the cat sat");
  EXPECT_EQ(Embed(*MakeCluster(WriteIdentityHeadModel(), 1), request)->pooling(), v1::POOLING_MEAN);
  EXPECT_EQ(Embed(*MakeCluster(WriteIdentityHeadModel(2), 1), request)->pooling(), v1::POOLING_CLS);
  auto last = MakeCluster(WriteIdentityHeadModel(3), 1);
  EXPECT_EQ(Embed(*last, request)->pooling(), v1::POOLING_LAST);
  request.set_pooling(v1::POOLING_MEAN);
  EXPECT_EQ(Embed(*last, request)->pooling(), v1::POOLING_MEAN);
  auto rank = MakeCluster(WriteIdentityHeadModel(4), 1);
  EXPECT_TRUE(Embed(*rank, request).ok());
  request.clear_pooling();
  EXPECT_THAT(std::string(Embed(*rank, request).status().message()), HasSubstr("llama.pooling_type is 4"));
}

TEST(EmbeddingTest, BadRequestsNameInputValueAndLimit) {
  auto cluster = TinyCluster(1);
  const auto expect = [&](const v1::EmbedRequest& request, absl::StatusCode code, const std::string& message) {
    const auto response = Embed(*cluster, request);
    EXPECT_EQ(response.status().code(), code) << response.status();
    EXPECT_THAT(std::string(response.status().message()), HasSubstr(message));
  };
  v1::EmbedRequest request;
  expect(request, absl::StatusCode::kInvalidArgument, "inputs has 0 entries");
  request.add_inputs()->set_text("the cat");
  request.set_model("other");
  expect(request, absl::StatusCode::kNotFound, "other");
  request.clear_model();
  request.set_pooling(static_cast<v1::Pooling>(9));
  expect(request, absl::StatusCode::kInvalidArgument, "pooling is 9");
  request.clear_pooling();
  request.add_inputs();
  expect(request, absl::StatusCode::kInvalidArgument, "inputs[1]: it is empty");
  request.mutable_inputs(1)->set_text("");
  expect(request, absl::StatusCode::kInvalidArgument, "inputs[1]: text is empty");
  request.mutable_inputs(1)->mutable_ids()->add_ids(70000);
  expect(request, absl::StatusCode::kInvalidArgument, "70000");
  request.mutable_inputs()->RemoveLast();
  AddIds(std::vector<int32_t>(257, 5), &request);
  expect(request, absl::StatusCode::kInvalidArgument, "inputs[1]: the prompt has 257 tokens; the context of 256");
  request.clear_inputs();
  for (int i = 0; i < 257; ++i) request.add_inputs()->set_text("a");
  expect(request, absl::StatusCode::kInvalidArgument, "inputs has 257 entries, expected 1 to 256");
  // A text of the whole context fits: nothing is generated.
  request.clear_inputs();
  AddIds(std::vector<int32_t>(256, 5), &request);
  EXPECT_TRUE(Embed(*cluster, request).ok());
}

TEST(EmbeddingTest, CancelEndsTheBatchAndFreesItsPages) {
  auto cluster = TinyCluster(2);
  std::latch done(1), generating(1), cancelled(1);
  // A generation holds the dispatch thread, so that the batch cannot end by itself.
  auto generation = cluster->generator().Start(IdsRequest({5, 6, 7}, 200), [&](v1::GenerateResponse, bool last, auto) {
    if (last || generating.try_wait()) return;
    generating.count_down();
    cancelled.wait();
  });
  ASSERT_TRUE(generation.ok());
  generating.wait();
  absl::Status ended;
  auto batch = cluster->embedder().Start(IdsInputs(v1::POOLING_MEAN, true), [&](auto response) {
    ended = response.status();
    done.count_down();
  });
  ASSERT_TRUE(batch.ok()) << batch.status();
  (*batch)->Cancel();
  (*generation)->Cancel();
  cancelled.count_down();
  done.wait();
  EXPECT_TRUE(absl::IsCancelled(ended)) << ended;
  EXPECT_TRUE(Embed(*cluster, IdsInputs(v1::POOLING_LAST, true)).ok());
  cluster->dispatcher().Stop();
  EXPECT_EQ(cluster->dispatcher().stats().running, 0);
  EXPECT_EQ(cluster->dispatcher().stats().kv_pages_used, 0);
}

}  // namespace
}  // namespace tandem::testing
