// Real files made by another implementation: all are read whole, and its quantised weights mean what we take them for.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "engine/gguf/gguf_file.h"

namespace tandem::engine {
namespace {

std::filesystem::path ReferenceFolder() {
  const char* folder = std::getenv("TANDEM_REFERENCE");
  return folder != nullptr ? folder : TANDEM_SOURCE_DIR "/../shared/reference";
}

class GgufReferenceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!std::filesystem::is_directory(ReferenceFolder())) {
      GTEST_SKIP() << "no reference folder at " << ReferenceFolder() << "; set TANDEM_REFERENCE";
    }
  }
};

uint64_t Aligned(uint64_t bytes, uint64_t alignment) { return (bytes + alignment - 1) / alignment * alignment; }

TEST_F(GgufReferenceTest, AllFilesOpenAndTheirTensorsFillTheFile) {
  int files = 0;
  for (const char* folder : {"arch", "quant", "models", "tokenizer"}) {
    for (const auto& entry : std::filesystem::directory_iterator(ReferenceFolder() / folder)) {
      if (entry.path().extension() != ".gguf") continue;
      SCOPED_TRACE(entry.path());
      const auto file = GgufFile::Open(entry.path());
      ASSERT_TRUE(file.ok()) << file.status();
      uint64_t end = (*file)->header().size();
      for (const GgufTensor& tensor : (*file)->tensors()) {
        EXPECT_EQ(tensor.offset, end) << tensor.name;
        end = Aligned(tensor.offset + tensor.bytes, (*file)->alignment());
      }
      EXPECT_EQ(Aligned((*file)->file_bytes(), (*file)->alignment()), Aligned(end, (*file)->alignment()));
      EXPECT_TRUE((*file)->GetString("general.architecture").ok());
      EXPECT_TRUE((*file)->GetStrings("tokenizer.ggml.tokens").ok());
      ++files;
    }
  }
  EXPECT_GE(files, 40);
}

double RelativeError(const std::vector<float>& actual, const std::vector<float>& wanted) {
  double error = 0, norm = 0;
  for (size_t i = 0; i < wanted.size(); ++i) {
    error += std::pow(static_cast<double>(actual[i]) - wanted[i], 2);
    norm += std::pow(static_cast<double>(wanted[i]), 2);
  }
  return std::sqrt(error / norm);
}

std::vector<float> Values(const GgufFile& file, const GgufTensor& tensor) {
  std::vector<float> values(tensor.cols() * tensor.rows());
  FindBlockFormat(tensor.type)->dequantize(file.ReadAll(tensor)->data(), values.data(), values.size());
  return values;
}

// The files in quant/ hold one model in several formats, so the F16 weights say what the quantised ones approximate.
// One bit in a wrong place gives an error many times the bounds, which are a little above those of good quantisers.
TEST_F(GgufReferenceTest, QuantizedWeightsAreNearTheF16Ones) {
  const std::map<TensorType, double> bounds = {
      {TensorType::kF32, 0},      {TensorType::kF16, 0},      {TensorType::kBF16, 0.002}, {TensorType::kQ8_0, 0.006},
      {TensorType::kQ6_K, 0.02},  {TensorType::kQ5_K, 0.04},  {TensorType::kQ4_K, 0.08},  {TensorType::kQ3_K, 0.17},
      {TensorType::kQ2_K, 0.33},  {TensorType::kQ4_0, 0.1},   {TensorType::kQ4_1, 0.09},  {TensorType::kQ5_0, 0.05},
      {TensorType::kQ5_1, 0.045}, {TensorType::kIQ4_NL, 0.1}, {TensorType::kIQ4_XS, 0.1}, {TensorType::kIQ3_S, 0.22}};
  const auto exact = GgufFile::Open(ReferenceFolder() / "quant" / "f16.gguf");
  ASSERT_TRUE(exact.ok()) << exact.status();
  std::map<TensorType, int> compared;
  for (const char* name : {"bf16", "q8_0", "q6_k", "q5_k_m", "q4_k_m", "q4_k_s", "q3_k_l", "q2_k", "q4_0", "q4_1",
                           "q5_0", "q5_1", "iq4_nl", "iq4_xs", "iq3_s", "iq3_m"}) {
    const auto file = GgufFile::Open(ReferenceFolder() / "quant" / (std::string(name) + ".gguf"));
    ASSERT_TRUE(file.ok()) << file.status();
    for (const GgufTensor& tensor : (*file)->tensors()) {
      const auto bound = bounds.find(tensor.type);
      if (bound == bounds.end()) continue;
      const std::vector<float> wanted = Values(**exact, *(*exact)->FindTensor(tensor.name));
      EXPECT_LE(RelativeError(Values(**file, tensor), wanted), bound->second) << name << " " << tensor.name;
      ++compared[tensor.type];
    }
  }
  for (const auto& [type, bound] : bounds) {
    if (type == TensorType::kF16) continue;  // what the others are compared with
    EXPECT_GT(compared[type], 0) << std::string(FindBlockFormat(type)->name);
  }
}

// Ours may be at most 2% worse than the oracle's own quantiser, on its own weights.
TEST_F(GgufReferenceTest, OurQuantizersAreAsGoodAsTheOracles) {
  const auto exact = GgufFile::Open(ReferenceFolder() / "quant" / "f16.gguf");
  ASSERT_TRUE(exact.ok()) << exact.status();
  for (const char* name :
       {"q8_0", "q6_k", "q5_k_s", "q4_k_s", "q3_k_s", "q2_k", "q4_0", "q4_1", "q5_0", "q5_1", "iq4_nl", "iq4_xs"}) {
    const auto file = GgufFile::Open(ReferenceFolder() / "quant" / (std::string(name) + ".gguf"));
    ASSERT_TRUE(file.ok()) << file.status();
    for (const GgufTensor& tensor : (*file)->tensors()) {
      const BlockFormat* format = FindBlockFormat(tensor.type);
      if (format->quantize == nullptr || format->block_elements == 1) continue;
      if (tensor.name != "blk.0.attn_q.weight" && tensor.name != "blk.1.ffn_down.weight") continue;  // enough, and fast
      const std::vector<float> wanted = Values(**exact, *(*exact)->FindTensor(tensor.name));
      std::vector<std::byte> blocks(tensor.bytes);
      format->quantize(wanted.data(), nullptr, blocks.data(), wanted.size());
      std::vector<float> ours(wanted.size());
      format->dequantize(blocks.data(), ours.data(), ours.size());
      EXPECT_LE(RelativeError(ours, wanted), 1.02 * RelativeError(Values(**file, tensor), wanted)) << tensor.name;
    }
  }
}

}  // namespace
}  // namespace tandem::engine
