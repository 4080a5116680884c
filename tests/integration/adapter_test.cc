// Adapters over the whole path in one process: named by requests, each with its own, on any number of workers.
#include <limits>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "tests/integration/answers.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_adapter.h"
#include "tests/support/tiny_model.h"

namespace tandem::testing {
namespace {

using ::testing::HasSubstr;

std::string WriteFile(const TinyModel& file, const std::string& name) {
  const std::string path = absl::StrCat(TempFolder(), "/", name, ".gguf");
  EXPECT_TRUE(file.Write(path).ok());
  return path;
}

TinyModel Base() { return MakeTinyModel({.layers = 4}); }

std::vector<coordinator::AdapterPath> WriteAdapters() {
  return {{"poet", WriteFile(MakeTinyAdapter(Base(), {.rank = 8, .alpha = 16, .seed = 1}), "poet")},
          {"clerk", WriteFile(MakeTinyAdapter(Base(), {.rank = 3, .alpha = 6, .seed = 2}), "clerk")}};
}

std::unique_ptr<cli::LocalCluster> MakeCluster(int workers, int32_t max_step_tokens = 512) {
  cli::LocalClusterOptions options;
  options.model_path = WriteTinyModel();
  options.adapters = WriteAdapters();
  options.workers = workers;
  options.threads = 1;
  options.isa = engine::DetectIsa();
  options.sequences = 8;
  options.max_step_tokens = max_step_tokens;
  auto cluster = cli::LocalCluster::Create(options);
  EXPECT_TRUE(cluster.ok()) << cluster.status();
  return cluster.ok() ? *std::move(cluster) : nullptr;
}

// Every second request goes through an adapter, every fourth through both.
std::vector<v1::GenerateRequest> Requests() {
  std::vector<v1::GenerateRequest> requests = EightRequests();
  for (size_t i = 0; i < requests.size(); ++i) {
    if (i % 2 == 1) requests[i].add_lora()->set_name(i % 4 == 1 ? "clerk" : "poet");
    if (i % 4 != 3) continue;
    v1::Lora& second = *requests[i].add_lora();
    second.set_name("clerk");
    second.set_scale(-0.5f);
  }
  return requests;
}

TEST(AdapterTest, EachRequestGetsItsOwnAloneOrTogetherOnAnyNumberOfWorkers) {
  const std::vector<v1::GenerateRequest> requests = Requests();
  auto one = MakeCluster(1);
  ASSERT_NE(one, nullptr);
  std::vector<Answer> alone;
  for (const v1::GenerateRequest& request : requests) {
    alone.push_back(Ask(*one, request));
    ASSERT_TRUE(alone.back().status.ok()) << alone.back().status;
    if (request.lora().empty()) continue;
    v1::GenerateRequest plain = request;
    plain.clear_lora();
    EXPECT_NE(Ask(*one, plain).ids, alone.back().ids) << "the adapter changes nothing";
  }
  for (const auto& [workers, max_step_tokens] : std::vector<std::pair<int, int>>{{1, 512}, {2, 512}, {4, 17}}) {
    auto cluster = MakeCluster(workers, max_step_tokens);
    ASSERT_NE(cluster, nullptr);
    std::vector<Answer> together(requests.size());
    std::vector<std::thread> clients;
    for (size_t i = 0; i < requests.size(); ++i) {
      clients.emplace_back([&, i] { together[i] = Ask(*cluster, requests[i]); });
    }
    for (std::thread& client : clients) client.join();
    for (size_t i = 0; i < requests.size(); ++i) {
      ASSERT_TRUE(together[i].status.ok()) << together[i].status;
      EXPECT_EQ(together[i].ids, alone[i].ids) << "client " << i << ", " << workers << " workers";
    }
  }
}

TEST(AdapterTest, AnswersAreThoseOfTheMergedModel) {
  auto cluster = MakeCluster(2);
  cli::LocalClusterOptions options;
  options.model_path =
      WriteFile(MergeAdapter(Base(), MakeTinyAdapter(Base(), {.rank = 8, .alpha = 16, .seed = 1}), 0.75), "merged");
  options.threads = 1;
  auto merged = cli::LocalCluster::Create(options);
  ASSERT_TRUE(merged.ok()) << merged.status();
  for (v1::GenerateRequest request : EightRequests()) {
    const Answer expected = Ask(**merged, request);
    v1::Lora& lora = *request.add_lora();
    lora.set_name("poet");
    lora.set_scale(0.75f);
    EXPECT_EQ(Ask(*cluster, request).ids, expected.ids);
  }
}

TEST(AdapterTest, EmbeddingsGoThroughAdaptersToo) {
  auto cluster = MakeCluster(2);
  v1::EmbedRequest request;
  request.add_inputs()->set_text("the cat sat on the mat");
  Interrupt interrupt;
  const auto plain = cluster->Embed(request, interrupt);
  request.add_lora()->set_name("poet");
  const auto adapted = cluster->Embed(request, interrupt);
  ASSERT_TRUE(plain.ok() && adapted.ok()) << adapted.status();
  EXPECT_NE(plain->SerializeAsString(), adapted->SerializeAsString());
  EXPECT_EQ(MakeCluster(4, 3)->Embed(request, interrupt)->SerializeAsString(), adapted->SerializeAsString());
}

TEST(AdapterTest, BadRequestsNameValueAndLimit) {
  auto cluster = MakeCluster(1);
  const auto expect = [&](const std::vector<std::pair<std::string, float>>& lora, absl::StatusCode code,
                          const std::string& message) {
    v1::GenerateRequest request = IdsRequest({5}, 1);
    for (const auto& [name, scale] : lora) {
      v1::Lora& to = *request.add_lora();
      to.set_name(name);
      to.set_scale(scale);
    }
    const Answer answer = Ask(*cluster, request);
    EXPECT_EQ(answer.status.code(), code) << answer.status;
    EXPECT_THAT(std::string(answer.status.message()), HasSubstr(message));
  };
  expect({{"pirate", 1}}, absl::StatusCode::kNotFound, "no adapter \"pirate\" here; loaded: poet, clerk");
  expect({{"poet", 101}}, absl::StatusCode::kInvalidArgument, "101");
  expect({{"poet", std::numeric_limits<float>::quiet_NaN()}}, absl::StatusCode::kInvalidArgument, "nan");
  expect({{"poet", 1}, {"clerk", 1}, {"poet", 1}}, absl::StatusCode::kInvalidArgument, "twice");
  expect(std::vector<std::pair<std::string, float>>(9, {"poet", 0.1f}), absl::StatusCode::kInvalidArgument,
         "lora has 9 entries");
}

TEST(AdapterTest, FilesThatDoNotFitAreRefusedByName) {
  const auto expect = [](const std::string& path, const std::string& message) {
    const auto model = coordinator::ServedModel::Open(WriteTinyModel(), {{"x", path}});
    EXPECT_FALSE(model.ok());
    EXPECT_THAT(std::string(model.status().message()), HasSubstr(path));
    EXPECT_THAT(std::string(model.status().message()), HasSubstr(message));
  };
  expect(WriteTinyModel(), "general.type");
  expect(WriteFile(MakeTinyAdapter(MakeTinyModel({.layers = 4, .hidden = 32}), {}), "narrow"),
         "attn_q.weight.lora_a has shape");
  expect("/nowhere/x.gguf", "");
  const auto paths = coordinator::ParseAdapterPaths({"a=/x.gguf", "b=/y=z.gguf"});
  ASSERT_TRUE(paths.ok());
  EXPECT_EQ((*paths)[1].path, "/y=z.gguf");
  for (const char* entry : {"a", "=x", "a="}) {
    EXPECT_THAT(std::string(coordinator::ParseAdapterPaths({entry}).status().message()), HasSubstr("NAME=FILE"));
  }
  EXPECT_THAT(std::string(coordinator::ParseAdapterPaths({"a=x", "a=y"}).status().message()), HasSubstr("\"a\""));
}

}  // namespace
}  // namespace tandem::testing
