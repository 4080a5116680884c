// Which tensor gets which format: rules by example, and against files that llama.cpp quantised.
#include "engine/conversion/file_type.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <set>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "tests/support/reference.h"

namespace tandem::engine {
namespace {

using enum TensorType;

GgufTensor Matrix(const std::string& name, uint64_t cols = 4096, uint64_t experts = 1) {
  return {.name = name, .type = kF16, .dims = {cols, 4096, experts}};
}
TensorType Mixed(const char* type, const MixModel& model, const std::string& name, uint64_t cols = 4096) {
  return MixedType(*FindFileType(type), model, Matrix(name, cols));
}

TEST(FileTypeTest, NamesAndNumbersAreUnique) {
  std::set<std::string> names;
  std::set<uint32_t> numbers;
  for (const FileType& type : AllFileTypes()) {
    EXPECT_TRUE(names.insert(std::string(type.name)).second) << type.name;
    EXPECT_TRUE(numbers.insert(type.number).second) << type.name;
    EXPECT_EQ(FindFileType(absl::AsciiStrToLower(type.name)), &type);
    EXPECT_NE(FindBlockFormat(type.base), nullptr);
  }
  EXPECT_EQ(FindFileType("q4_k"), FindFileType("Q4_K_M"));
  EXPECT_EQ(FindFileType("q9_k"), nullptr);
  EXPECT_EQ(FindFileType("q4_k_m")->number, 15u);
}

TEST(FileTypeTest, VectorsNormsAndRoutersStay) {
  EXPECT_TRUE(IsQuantized(Matrix("blk.0.attn_q.weight")));
  EXPECT_TRUE(IsQuantized(Matrix("blk.0.ffn_up_exps.weight", 4096, 8)));
  EXPECT_FALSE(IsQuantized(Matrix("blk.0.ffn_gate_inp.weight")));
  EXPECT_FALSE(IsQuantized(Matrix("blk.0.attn_q_norm.weight")));
  EXPECT_FALSE(IsQuantized(Matrix("blk.0.attn_q.scale")));
  EXPECT_FALSE(IsQuantized({.name = "output_norm.weight", .type = kF32, .dims = {4096}}));
  EXPECT_FALSE(IsQuantized({.name = "blk.0.x.weight", .type = kF32, .dims = {4096, 1}}));
  EXPECT_FALSE(IsQuantized({.name = "ids.weight", .type = kI32, .dims = {64, 64}}));
}

TEST(FileTypeTest, MoreBitsGoToTheFirstTheLastAndEveryThirdLayer) {
  const MixModel model{.architecture = "llama", .layers = 32};
  for (int layer = 0; layer < 32; ++layer) {
    const bool more = layer < 4 || layer >= 28 || (layer - 4) % 3 == 2;
    EXPECT_EQ(Mixed("Q4_K_M", model, absl::StrCat("blk.", layer, ".ffn_down.weight")), more ? kQ6_K : kQ4_K) << layer;
    EXPECT_EQ(Mixed("Q5_K_M", model, absl::StrCat("blk.", layer, ".attn_v.weight")), more ? kQ6_K : kQ5_K) << layer;
    EXPECT_EQ(Mixed("Q4_K_S", model, absl::StrCat("blk.", layer, ".ffn_down.weight")), layer < 4 ? kQ5_K : kQ4_K);
    EXPECT_EQ(Mixed("Q4_K_M", model, absl::StrCat("blk.", layer, ".attn_q.weight")), kQ4_K);
  }
}

TEST(FileTypeTest, GroupedQueriesExpertsAndTiedHeadsChangeTheMix) {
  const MixModel plain{.architecture = "llama", .layers = 32};
  const MixModel grouped{.architecture = "llama", .layers = 80, .heads_per_kv = 8};
  const MixModel experts{.architecture = "llama", .layers = 32, .heads_per_kv = 4, .experts = 8};
  const MixModel tied{.architecture = "llama", .layers = 32, .tied_head = true};
  EXPECT_EQ(Mixed("Q2_K", plain, "blk.9.attn_v.weight"), kQ3_K);
  EXPECT_EQ(Mixed("Q2_K", grouped, "blk.9.attn_v.weight"), kQ5_K);  // Q4_K, raised in models of 80 layers
  EXPECT_EQ(Mixed("IQ4_XS", grouped, "blk.40.attn_v.weight"), kQ5_K);
  EXPECT_EQ(Mixed("Q4_K_M", experts, "blk.9.attn_v.weight"), kQ8_0);
  EXPECT_EQ(Mixed("Q4_K_M", experts, "blk.9.attn_k.weight"), kQ8_0);
  EXPECT_EQ(Mixed("Q4_K_M", experts, "blk.9.attn_output.weight"), kQ5_K);
  EXPECT_EQ(Mixed("Q4_K_M", tied, "token_embd.weight"), kQ6_K);
  EXPECT_EQ(Mixed("Q4_K_M", plain, "token_embd.weight"), kQ4_K);
  EXPECT_EQ(Mixed("TQ1_0", plain, "token_embd.weight"), kQ4_K);
  EXPECT_EQ(Mixed("IQ2_XXS", plain, "output.weight"), kQ5_K);
  EXPECT_EQ(Mixed("IQ1_S", plain, "blk.9.attn_output.weight"), kIQ2_XXS);
  EXPECT_EQ(Mixed("IQ3_XS", plain, "blk.9.ffn_up.weight"), kIQ3_XXS);
  EXPECT_EQ(Mixed("IQ3_XS", plain, "blk.1.ffn_up.weight"), kIQ3_S);
  EXPECT_EQ(Mixed("F16", plain, "output.weight"), kF16);
}

TEST(FileTypeTest, RowsThatDoNotFitFallBack) {
  const MixModel model{.architecture = "llama", .layers = 32};
  EXPECT_EQ(Mixed("Q4_K_M", model, "blk.9.attn_q.weight", 4128), kQ5_0);
  EXPECT_EQ(Mixed("Q2_K", model, "blk.9.attn_q.weight", 4128), kQ4_0);
  EXPECT_EQ(Mixed("IQ4_XS", model, "blk.9.attn_q.weight", 4128), kIQ4_NL);
  EXPECT_EQ(Mixed("Q4_K_M", model, "output.weight", 4128), kQ8_0);
  EXPECT_EQ(Mixed("Q4_K_M", model, "blk.9.attn_q.weight", 100), kF16);
  EXPECT_EQ(FittingType(kQ5_K, 32), kQ5_1);
  EXPECT_EQ(FittingType(kQ6_K, 512), kQ6_K);
}

// The same model in each file type, as llama.cpp chose the formats.
TEST(FileTypeTest, ReferenceFilesHaveTheFormatsThatTheRulesSay) {
  const std::string folder = tandem::testing::ReferenceFolder();
  if (folder.empty()) GTEST_SKIP() << tandem::testing::kNoReference;
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder + "/quant")) {
    if (entry.path().extension() != ".gguf") continue;
    const auto file = GgufFile::Open(entry.path());
    ASSERT_TRUE(file.ok()) << file.status();
    const std::string stem = entry.path().stem();
    const FileType* type = FindFileType(stem.substr(0, stem.find('-')));
    ASSERT_NE(type, nullptr) << stem;
    EXPECT_EQ(*(*file)->GetUint("general.file_type"), type->number) << stem;
    const auto experts = (*file)->GetUint("llama.expert_count");
    const MixModel model{.architecture = "llama",
                         .layers = 2,
                         .heads_per_kv = 2,
                         .experts = static_cast<int32_t>(experts.ok() ? *experts : 0)};
    for (const GgufTensor& tensor : (*file)->tensors()) {
      GgufTensor original = tensor;
      original.type = kF16;
      const TensorType expected = IsQuantized(original) ? MixedType(*type, model, original) : kF32;
      EXPECT_EQ(FindBlockFormat(expected)->name, FindBlockFormat(tensor.type)->name) << stem << " " << tensor.name;
    }
    ++files;
  }
  EXPECT_GE(files, 20);
}

}  // namespace
}  // namespace tandem::engine
