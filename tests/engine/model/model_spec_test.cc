#include "engine/model/model_spec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "tests/support/tiny_model.h"

namespace tandem::engine {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::MakeTinyModel;
using testing::ParseTinyModel;
using testing::TinyFile;
using testing::TinyModel;
using testing::TinyModelShape;

absl::StatusOr<ModelSpec> ReadChanged(const std::function<void(TinyModel&)>& change) {
  TinyModel model = MakeTinyModel({});
  change(model);
  return ReadModelSpec(*ParseTinyModel(model).file);
}

TEST(ModelSpecTest, ReadsTheHyperparameters) {
  const auto spec = ReadChanged([](TinyModel&) {});
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->architecture, "llama");
  EXPECT_EQ(spec->name, "tiny");
  EXPECT_EQ(spec->num_layers, 2);
  EXPECT_EQ(spec->hidden, 64);
  EXPECT_EQ(spec->ffn, 96);
  EXPECT_EQ(spec->heads, 4);
  EXPECT_EQ(spec->kv_heads, 2);
  EXPECT_EQ(spec->head_dim, 16);
  EXPECT_EQ(spec->vocab, 320);
  EXPECT_EQ(spec->context, 256);
  EXPECT_EQ(spec->norm_eps, 1e-5f);
  EXPECT_EQ(spec->rope.base, 10000.0f);
  EXPECT_EQ(spec->rope.dims, 16);
  EXPECT_EQ(spec->rope.scaling, RopeScaling::kNone);
  EXPECT_FALSE(spec->tied_head);
}

TEST(ModelSpecTest, OptionalKeysHaveTheFormatsDefaults) {
  const auto spec = ReadChanged([](TinyModel& model) {
    for (const char* key : {"llama.attention.key_length", "llama.attention.value_length", "llama.rope.dimension_count",
                            "llama.rope.freq_base", "general.name"}) {
      model.metadata.erase(key);
    }
    model.tensors.erase("output.weight");
  });
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->head_dim, 16);
  EXPECT_EQ(spec->rope.dims, 16);
  EXPECT_EQ(spec->rope.base, 10000.0f);
  EXPECT_EQ(spec->name, "");
  EXPECT_TRUE(spec->tied_head);
}

TEST(ModelSpecTest, HeadsWithoutGroupsAreTheDefault) {
  TinyModel model = MakeTinyModel({.kv_heads = 4});
  model.metadata.erase("llama.attention.head_count_kv");
  const auto spec = ReadModelSpec(*ParseTinyModel(model).file);
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->kv_heads, 4);
}

TEST(ModelSpecTest, ReadsRopeScaling) {
  const auto linear = ReadChanged([](TinyModel& model) {
    model.metadata["llama.rope.scaling.type"] = std::string("linear");
    model.metadata["llama.rope.scaling.factor"] = 4.0f;
  });
  ASSERT_TRUE(linear.ok()) << linear.status();
  EXPECT_EQ(linear->rope.scaling, RopeScaling::kLinear);
  EXPECT_EQ(linear->rope.factor, 4.0f);

  const auto old = ReadChanged([](TinyModel& model) { model.metadata["llama.rope.scale_linear"] = 2.0f; });
  ASSERT_TRUE(old.ok()) << old.status();
  EXPECT_EQ(old->rope.scaling, RopeScaling::kLinear);
  EXPECT_EQ(old->rope.factor, 2.0f);

  const auto yarn = ReadChanged([](TinyModel& model) {
    model.metadata["llama.rope.scaling.type"] = std::string("yarn");
    model.metadata["llama.rope.scaling.factor"] = 8.0f;
    model.metadata["llama.rope.scaling.original_context_length"] = uint32_t{32};
    model.metadata["llama.rope.scaling.yarn_beta_fast"] = 16.0f;
    model.metadata["llama.rope.scaling.attn_factor"] = 1.5f;
  });
  ASSERT_TRUE(yarn.ok()) << yarn.status();
  EXPECT_EQ(yarn->rope.scaling, RopeScaling::kYarn);
  EXPECT_EQ(yarn->rope.original_context, 32);
  EXPECT_EQ(yarn->rope.yarn_beta_fast, 16.0f);
  EXPECT_EQ(yarn->rope.yarn_beta_slow, 1.0f);
  EXPECT_EQ(yarn->rope.attn_factor, 1.5f);
}

TEST(ModelSpecTest, ContextIsCutToWhatRopeCanCompute) {
  const auto spec = ReadChanged([](TinyModel& m) { m.metadata["llama.context_length"] = uint32_t{1} << 22; });
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->context, kMaxPositions);
}

TEST(ModelSpecTest, OldRotaryTensorsAreIgnored) {
  const auto spec = ReadChanged([](TinyModel& m) {
    m.SetTensor("blk.0.attn_rot_embd.weight", TensorType::kF32, {8}, std::vector<float>(8, 1.0f));
  });
  EXPECT_TRUE(spec.ok()) << spec.status();
}

// A broken or foreign file, and what the message must say about it.
struct BadFile {
  const char* name;
  std::function<void(TinyModel&)> change;
  absl::StatusCode code;
  const char* says;
  const char* says_too = "";
};

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr auto kUnimplemented = absl::StatusCode::kUnimplemented;

template <typename T>
std::function<void(TinyModel&)> Set(const char* key, T value) {
  return [=](TinyModel& model) { model.metadata[key] = value; };
}
std::function<void(TinyModel&)> Erase(const char* name) {
  return [=](TinyModel& model) {
    model.metadata.erase(name);
    model.tensors.erase(name);
  };
}
std::function<void(TinyModel&)> Tensor(const char* name, TensorType type, std::vector<uint64_t> dims) {
  return [=](TinyModel& model) {
    uint64_t count = 1;
    for (uint64_t dim : dims) count *= dim;
    model.SetTensor(name, type, dims, std::vector<float>(count, 1.0f));
  };
}

const BadFile kBadFiles[] = {
    {"NoArchitecture", Erase("general.architecture"), kInvalid, "general.architecture is missing"},
    {"OtherArchitecture", Set("general.architecture", std::string("gemma9")), kUnimplemented, "gemma9", "\"gemma2\""},
    {"NoExpertsUsed", Set("llama.expert_count", uint32_t{4}), kInvalid, "llama.expert_used_count is missing"},
    {"ExpertsNowhere",
     [](TinyModel& m) {
       m.metadata["llama.expert_count"] = uint32_t{4};
       m.metadata["llama.expert_used_count"] = uint32_t{2};
     },
     kInvalid, "llama.expert_count is 4", "no layer has experts"},
    {"NoLayerCount", Erase("llama.block_count"), kInvalid, "llama.block_count is missing"},
    {"NoLayers", Set("llama.block_count", uint32_t{0}), kInvalid, "llama.block_count is 0", "1 to 4096"},
    {"TooManyLayers", Set("llama.block_count", uint32_t{4097}), kInvalid, "4097", "1 to 4096"},
    {"LayerCountIsText", Set("llama.block_count", std::string("two")), kInvalid, "llama.block_count"},
    {"NegativeWidth", Set("llama.embedding_length", int32_t{-64}), kInvalid, "llama.embedding_length is -64"},
    {"HugeWidth", Set("llama.embedding_length", uint32_t{0xFFFFFFFF}), kInvalid, "4294967295", "1 to 1048576"},
    {"HugeFfn", Set("llama.feed_forward_length", uint32_t{1} << 31), kInvalid, "llama.feed_forward_length"},
    {"NoHeads", Set("llama.attention.head_count", uint32_t{0}), kInvalid, "llama.attention.head_count is 0"},
    {"MoreKvHeads", Set("llama.attention.head_count_kv", uint32_t{8}), kInvalid, "head_count_kv is 8", "1 to 4"},
    {"UnevenKvHeads", Set("llama.attention.head_count_kv", uint32_t{3}), kInvalid, "3, which does not divide", "4"},
    {"OddHeadLength", Set("llama.attention.key_length", uint32_t{18}), kUnimplemented, "keys of 18", "multiples of 4"},
    {"UnlikeValues", Set("llama.attention.value_length", uint32_t{32}), kInvalid, "attn_v.weight has shape [64, 32]",
     "[64, 64]"},
    {"UnevenHeads",
     [](TinyModel& m) {
       m.metadata.erase("llama.attention.key_length");
       m.metadata["llama.attention.head_count"] = uint32_t{6};
     },
     kInvalid, "embedding_length is 64", "6 heads"},
    {"NoEpsilon", Erase("llama.attention.layer_norm_rms_epsilon"), kInvalid, "layer_norm_rms_epsilon is missing"},
    {"ZeroEpsilon", Set("llama.attention.layer_norm_rms_epsilon", 0.0f), kInvalid, "layer_norm_rms_epsilon is 0"},
    {"NanEpsilon", Set("llama.attention.layer_norm_rms_epsilon", std::numeric_limits<float>::quiet_NaN()), kInvalid,
     "layer_norm_rms_epsilon is nan"},
    {"NoContext", Erase("llama.context_length"), kInvalid, "llama.context_length is missing"},
    {"OddRope", Set("llama.rope.dimension_count", uint32_t{7}), kInvalid, "rope.dimension_count is 7", "even"},
    {"WideRope", Set("llama.rope.dimension_count", uint32_t{18}), kInvalid, "rope.dimension_count is 18", "2 to 16"},
    {"ZeroBase", Set("llama.rope.freq_base", 0.0f), kInvalid, "rope.freq_base is 0"},
    {"HugeBase", Set("llama.rope.freq_base", 1e12f), kInvalid, "rope.freq_base is 1e+12"},
    {"SmallFactor", Set("llama.rope.scaling.factor", 0.5f), kInvalid, "rope.scaling.factor is 0.5", "at least 1"},
    {"OtherScaling", Set("llama.rope.scaling.type", std::string("ntk")), kUnimplemented, "ntk", "yarn"},
    {"NoEmbedding", Erase("token_embd.weight"), kInvalid, "token_embd.weight is missing"},
    {"NoOutputNorm", Erase("output_norm.weight"), kInvalid, "output_norm.weight is missing"},
    {"NoQuery", Erase("blk.1.attn_q.weight"), kInvalid, "blk.1.attn_q.weight is missing"},
    {"WrongShape", Tensor("blk.1.attn_k.weight", TensorType::kF32, {64, 64}), kInvalid,
     "blk.1.attn_k.weight has shape [64, 64]", "[64, 32]"},
    {"WrongNorm", Tensor("blk.0.ffn_norm.weight", TensorType::kF32, {32}), kInvalid, "blk.0.ffn_norm.weight", "[64]"},
    {"WrongRank", Tensor("output_norm.weight", TensorType::kF32, {64, 1}), kInvalid, "output_norm.weight"},
    {"WrongHead", Tensor("output.weight", TensorType::kF32, {64, 64}), kInvalid, "output.weight has shape [64, 64]"},
    {"WrongRopeFactors", Tensor("rope_freqs.weight", TensorType::kF32, {16}), kInvalid, "rope_freqs.weight", "[8]"},
    {"WrongBias", Tensor("blk.0.attn_q.bias", TensorType::kF32, {32}), kInvalid, "blk.0.attn_q.bias", "[64]"},
    {"ForeignTensor", Tensor("blk.0.attn_sinks.weight", TensorType::kF32, {4}), kUnimplemented, "blk.0.attn_sinks"},
    {"LayerBeyond", Tensor("blk.2.attn_norm.weight", TensorType::kF32, {64}), kUnimplemented, "blk.2.attn_norm"},
    {"NoKernels",
     [](TinyModel& m) {
       m.tensors["blk.0.ffn_up.weight"] = {
           .dims = {64, 96}, .type = TensorType::kQ8_1, .data = std::vector<std::byte>(96 * 2 * 36)};
     },
     kUnimplemented, "blk.0.ffn_up.weight has type Q8_1", "Q8_0"},
    {"UnreadableNorm",
     [](TinyModel& m) {
       m.tensors["blk.0.ffn_norm.weight"] = {.dims = {64}, .type = TensorType::kI8, .data = std::vector<std::byte>(64)};
     },
     kUnimplemented, "blk.0.ffn_norm.weight has type I8", "F32"},
};

class BadFileTest : public ::testing::TestWithParam<BadFile> {};

TEST_P(BadFileTest, IsRefusedWithTheReason) {
  const auto spec = ReadChanged(GetParam().change);
  ASSERT_FALSE(spec.ok());
  EXPECT_EQ(spec.status().code(), GetParam().code) << spec.status();
  EXPECT_THAT(std::string(spec.status().message()), AllOf(HasSubstr(GetParam().says), HasSubstr(GetParam().says_too)));
}

INSTANTIATE_TEST_SUITE_P(ModelSpec, BadFileTest, ::testing::ValuesIn(kBadFiles),
                         [](const auto& info) { return info.param.name; });

TEST(ModelCostTest, CountsPackedBytesAndProducts) {
  const TinyFile tiny = ParseTinyModel(TinyModelShape{.type = TensorType::kQ8_0});
  const ModelSpec spec = *ReadModelSpec(*tiny.file);
  const ModelCost cost = ComputeModelCost(spec, *tiny.file);
  ASSERT_EQ(cost.layers.size(), 2u);
  const uint64_t macs = 64 * 64 * 2 + 32 * 64 * 2 + 64 * 96 * 3;
  EXPECT_EQ(cost.layers[1].macs_per_token, macs);
  // Q8_0 takes 34 bytes for 32 weights, packed as in the file: every row count is a multiple of 16.
  EXPECT_EQ(cost.layers[1].weight_bytes, macs / 32 * 34 + 2 * 64 * 4);
  EXPECT_EQ(cost.embedding.weight_bytes, 320u * 64 / 32 * 34);
  EXPECT_EQ(cost.embedding.macs_per_token, 0u);
  EXPECT_EQ(cost.head.weight_bytes, 320u * 64 / 32 * 34 + 64 * 4);
  EXPECT_EQ(cost.head.macs_per_token, 320u * 64);
  EXPECT_EQ(cost.kv_elements_per_token_layer, 2u * 2 * 16);
}

}  // namespace
}  // namespace tandem::engine
