// Reading adapters: what belongs to a model, and every way in which a file does not.

#include "engine/model/adapter.h"

#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <limits>
#include <random>
#include <span>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/tiny_adapter.h"
#include "tests/support/tiny_model.h"

namespace tandem::engine {

bool FuzzAdapter(std::span<const std::byte> bytes);  // tests/fuzz/adapter/adapter_fuzz_body.cc

namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::MakeTinyAdapter;
using testing::ParseTinyModel;
using testing::TinyFile;
using testing::TinyModel;

class AdapterFileTest : public ::testing::Test {
 protected:
  AdapterFileTest() : model_(testing::MakeTinyModel({})), file_(ParseTinyModel(model_)) {
    spec_ = *ReadModelSpec(*file_.file);
  }
  absl::StatusOr<AdapterSpec> Read(const TinyModel& adapter) {
    const TinyFile file = ParseTinyModel(adapter);
    return ReadAdapter(*file.file, spec_, *file_.file);
  }
  void ExpectRefused(const std::function<void(TinyModel&)>& spoil, absl::StatusCode code, const std::string& message) {
    TinyModel adapter = MakeTinyAdapter(model_, {.rank = 4});
    spoil(adapter);
    const auto read = Read(adapter);
    EXPECT_EQ(read.status().code(), code) << read.status();
    EXPECT_THAT(std::string(read.status().message()), HasSubstr(message));
  }
  void SetZeros(TinyModel& adapter, const std::string& name, uint64_t cols, uint64_t rows) {
    adapter.SetTensor(name, TensorType::kF32, {cols, rows}, std::vector<float>(cols * rows));
  }

  const TinyModel model_;  // 2 layers, hidden 64
  const TinyFile file_;
  ModelSpec spec_;
};

TEST_F(AdapterFileTest, ReadsWhatAnAdapterChanges) {
  const auto spec =
      Read(MakeTinyAdapter(model_, {.rank = 5, .alpha = 10, .parts = {"attn_k", "ffn_down"}, .layers = {1}}));
  ASSERT_TRUE(spec.ok()) << spec.status();
  ASSERT_EQ(spec->tensors.size(), 2u);
  EXPECT_EQ(spec->tensors[0].base.name, "blk.1.attn_k.weight");
  EXPECT_EQ(spec->tensors[0].layer, 1);
  EXPECT_EQ(spec->tensors[0].rank, 5);
  EXPECT_EQ(spec->ScaleOf(spec->tensors[0]), 2.0f);
  EXPECT_TRUE(AdapterTensorNames(*spec, 0, 1).empty());
  EXPECT_THAT(AdapterTensorNames(*spec, 0, 2),
              ElementsAre("blk.1.attn_k.weight.lora_a", "blk.1.attn_k.weight.lora_b", "blk.1.ffn_down.weight.lora_a",
                          "blk.1.ffn_down.weight.lora_b"));
}

TEST_F(AdapterFileTest, MetadataThatIsNotThatOfAnAdapterForTheModel) {
  using absl::StatusCode;
  const auto set = [](const char* key, TinyModel::Value value) {
    return [key, value](TinyModel& adapter) { adapter.metadata[key] = value; };
  };
  const auto erase = [](const char* key) { return [key](TinyModel& adapter) { adapter.metadata.erase(key); }; };
  ExpectRefused(set("general.type", std::string("model")), StatusCode::kInvalidArgument, "general.type is \"model\"");
  ExpectRefused(erase("general.type"), StatusCode::kNotFound, "general.type");
  ExpectRefused(set("adapter.type", std::string("control_vector")), StatusCode::kUnimplemented, "control_vector");
  ExpectRefused(set("general.architecture", std::string("qwen2")), StatusCode::kInvalidArgument, "qwen2");
  ExpectRefused(erase("adapter.lora.alpha"), StatusCode::kNotFound, "adapter.lora.alpha");
  ExpectRefused(set("adapter.lora.alpha", std::string("16")), StatusCode::kInvalidArgument, "adapter.lora.alpha");
  ExpectRefused(set("adapter.lora.alpha", std::numeric_limits<float>::infinity()), StatusCode::kInvalidArgument, "inf");
}

TEST_F(AdapterFileTest, TensorsThatDoNotFitTheModel) {
  using absl::StatusCode;
  ExpectRefused([](TinyModel& a) { a.tensors.clear(); }, StatusCode::kInvalidArgument, "no tensors");
  ExpectRefused([](TinyModel& a) { a.tensors.erase("blk.0.attn_q.weight.lora_b"); }, StatusCode::kInvalidArgument,
                "blk.0.attn_q.weight.lora_b is missing");
  ExpectRefused([](TinyModel& a) { a.tensors.erase("blk.1.ffn_up.weight.lora_a"); }, StatusCode::kInvalidArgument,
                "blk.1.ffn_up.weight.lora_a is missing");
  ExpectRefused([&](TinyModel& a) { SetZeros(a, "blk.0.attn_q.weight.lora_a", 32, 4); }, StatusCode::kInvalidArgument,
                "shape [32, 4], expected [64, 4]");
  ExpectRefused([&](TinyModel& a) { SetZeros(a, "blk.0.attn_q.weight.lora_b", 5, 64); }, StatusCode::kInvalidArgument,
                "shape [5, 64], expected [4, 64]");
  ExpectRefused([&](TinyModel& a) { SetZeros(a, "blk.0.attn_q.weight.lora_b", 4, 63); }, StatusCode::kInvalidArgument,
                "expected [4, 64]");
  ExpectRefused([&](TinyModel& a) { SetZeros(a, "blk.0.attn_q.weight.lora_a", 64, 4097); },
                StatusCode::kInvalidArgument, "rank 4097, expected 1 to 4096");
  ExpectRefused([&](TinyModel& a) { SetZeros(a, "blk.2.attn_q.weight.lora_a", 64, 4); }, StatusCode::kInvalidArgument,
                "blk.2.attn_q.weight, which the model does not have");
}

TEST_F(AdapterFileTest, TensorsThatTandemDoesNotAdaptAreNamed) {
  using absl::StatusCode;
  for (const char* name : {"token_embd.weight", "output.weight", "output_norm.weight"}) {
    ExpectRefused([&](TinyModel& a) { SetZeros(a, std::string(name) + ".lora_a", 64, 4); }, StatusCode::kUnimplemented,
                  name);
  }
  ExpectRefused(
      [&](TinyModel& a) {
        SetZeros(a, "blk.0.attn_norm.weight.lora_a", 64, 1);
        SetZeros(a, "blk.0.attn_norm.weight.lora_b", 1, 64);
      },
      StatusCode::kUnimplemented, "blk.0.attn_norm.weight");
  ExpectRefused([&](TinyModel& a) { SetZeros(a, "blk.0.attn_q.weight", 64, 64); }, StatusCode::kUnimplemented,
                "neither NAME.lora_a nor NAME.lora_b");
}

std::vector<std::vector<std::byte>> Seeds() {
  std::vector<std::vector<std::byte>> seeds;
  const std::filesystem::path folder = std::filesystem::path(TANDEM_SOURCE_DIR) / "tests/fuzz/adapter/corpus";
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    std::ifstream file(entry.path(), std::ios::binary);
    const std::string bytes(std::istreambuf_iterator<char>(file), {});
    const auto view = std::as_bytes(std::span(bytes));
    seeds.emplace_back(view.begin(), view.end());
  }
  return seeds;
}

TEST(AdapterRobustnessTest, EverySeedIsTaken) {
  EXPECT_EQ(Seeds().size(), 2u);
  for (const auto& seed : Seeds()) EXPECT_TRUE(FuzzAdapter(seed));
}

TEST(AdapterRobustnessTest, EveryDamagedFileReturns) {
  std::mt19937 random(1);
  int taken = 0, refused = 0;
  for (const auto& seed : Seeds()) {
    for (int i = 0; i < 300; ++i) {
      std::vector<std::byte> damaged = seed;
      for (int k = 0; k < 1 + i % 3; ++k) damaged[random() % damaged.size()] = static_cast<std::byte>(random());
      ++(FuzzAdapter(damaged) ? taken : refused);
    }
  }
  EXPECT_GT(taken, 0);
  EXPECT_GT(refused, 0);
}

}  // namespace
}  // namespace tandem::engine
