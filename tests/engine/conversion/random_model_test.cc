// Weights drawn in their format, and whole models of them.
#include "engine/conversion/random_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include "engine/conversion/random_blocks.h"
#include "engine/gguf/gguf_file.h"
#include "engine/model/model_spec.h"
#include "engine/tokenizer/tokenizer.h"

namespace tandem::engine {
namespace {

using ::testing::HasSubstr;

TEST(RandomBlocksTest, EveryFormatHasMeanZeroAndTheSpreadAskedFor) {
  for (const BlockFormat& format : AllBlockFormats()) {
    for (const float spread : {1.0f, 1.0f / 64, 1.0f / 90}) {
      const auto blocks = RandomBlocks::Create(format.type, spread);
      if (!format.computable()) {
        EXPECT_EQ(blocks.status().code(), absl::StatusCode::kUnimplemented) << format.name;
        continue;
      }
      constexpr size_t kElements = 1 << 16;
      std::vector<std::byte> bytes(kElements / format.block_elements * format.block_bytes);
      std::vector<float> values(kElements);
      blocks->Fill(3, bytes);
      format.dequantize(bytes.data(), values.data(), values.size());
      double sum = 0, squares = 0;
      for (const float value : values) {
        ASSERT_TRUE(std::isfinite(value)) << format.name;
        sum += value;
        squares += double{value} * value;
      }
      const double deviation = std::sqrt(squares / kElements);
      EXPECT_NEAR(sum / kElements / spread, 0, 0.15) << format.name;
      EXPECT_GT(deviation / spread, 0.6) << format.name;
      EXPECT_LT(deviation / spread, 1.6) << format.name;
      // Not one value over and over: most pairs of neighbours differ.
      size_t equal = 0;
      for (size_t i = 1; i < kElements; ++i) equal += values[i] == values[i - 1] ? 1 : 0;
      EXPECT_LT(equal, kElements * 6 / 10) << format.name;
    }
  }
}

TEST(RandomBlocksTest, TheSeedDecides) {
  const auto blocks = RandomBlocks::Create(TensorType::kQ4_K, 0.02f);
  ASSERT_TRUE(blocks.ok());
  std::vector<std::byte> a(144 * 10), b(144 * 10), c(144 * 10);
  blocks->Fill(7, a);
  blocks->Fill(7, b);
  blocks->Fill(8, c);
  EXPECT_EQ(a, b);
  EXPECT_NE(a, c);
}

class RandomModelTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = ::testing::TempDir() + "random_model_XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  static ModelShape Small() {
    ModelShape shape = *FindModelShape("llama-1b");
    shape.layers = 2;
    shape.hidden = 256;
    shape.ffn = 512;
    shape.heads = 4;
    shape.kv_heads = 2;
    shape.head_dim = 64;
    shape.vocab = 300;
    return shape;
  }
  absl::Status Write(const ModelShape& shape, const char* type, uint64_t seed, int threads = 2) {
    ThreadPool pool(threads, /*pin=*/false);
    return WriteRandomModel(shape, *FindFileType(type), seed, path(), pool, nullptr, nullptr);
  }
  std::string path() const { return folder_ + "/m.gguf"; }

  std::string folder_;
};

TEST_F(RandomModelTest, IsAModelWithAVocabulary) {
  for (const bool tied : {false, true}) {
    ModelShape shape = Small();
    shape.tied_head = tied;
    ASSERT_TRUE(Write(shape, "Q4_K_M", 1).ok());
    const auto file = GgufFile::Open(path());
    ASSERT_TRUE(file.ok()) << file.status();
    const auto spec = ReadModelSpec(**file);
    ASSERT_TRUE(spec.ok()) << spec.status();
    EXPECT_EQ(spec->num_layers, 2);
    EXPECT_EQ(spec->tied_head, tied);
    EXPECT_EQ((*file)->FindTensor("blk.0.attn_v.weight")->type, TensorType::kQ4_K);
    EXPECT_EQ((*file)->FindTensor("blk.1.attn_v.weight")->type, TensorType::kQ6_K);
    const auto tokenizer = Tokenizer::Create(**file);
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    EXPECT_EQ((*tokenizer)->vocab_size(), 300);
    EXPECT_EQ((*tokenizer)->Encode("hi", {}).size(), 5u);  // the space before is three bytes
  }
}

TEST_F(RandomModelTest, TheFileDependsOnTheSeedButNotOnTheThreads) {
  const auto fingerprint = [&](uint64_t seed, int threads) {
    EXPECT_TRUE(Write(Small(), "Q8_0", seed, threads).ok());
    const auto file = GgufFile::Open(path());
    std::vector<std::byte> all;
    for (const GgufTensor& tensor : (*file)->tensors()) {
      const auto bytes = *(*file)->ReadAll(tensor);
      all.insert(all.end(), bytes.begin(), bytes.end());
    }
    return all;
  };
  const auto first = fingerprint(1, 1);
  EXPECT_EQ(fingerprint(1, 3), first);
  EXPECT_NE(fingerprint(2, 1), first);
}

// Names and shapes of a model whose layers are not all alike, as published files have them.
TEST_F(RandomModelTest, ADeepSeekModelHasItsTensors) {
  ModelShape shape = *FindModelShape("deepseek-v3");
  shape.layers = 4;
  shape.hidden = 256;
  shape.ffn = 256;
  shape.experts = 4;
  shape.experts_used = 2;
  shape.vocab = 300;
  shape.heads = 4;
  shape.deepseek.q_rank = 256;
  shape.deepseek.dense_ffn = 512;
  ASSERT_TRUE(Write(shape, "Q4_K_M", 1).ok());
  const auto file = GgufFile::Open(path());
  ASSERT_TRUE(file.ok()) << file.status();
  const auto dims = [&](const char* name) {
    const GgufTensor* tensor = (*file)->FindTensor(name);
    return tensor == nullptr ? std::vector<uint64_t>() : tensor->dims;
  };
  using Dims = std::vector<uint64_t>;
  EXPECT_EQ(dims("blk.0.attn_q_b.weight"), (Dims{256, 4 * 192}));
  EXPECT_EQ(dims("blk.0.attn_kv_a_mqa.weight"), (Dims{256, 576}));
  EXPECT_EQ(dims("blk.0.attn_k_b.weight"), (Dims{128, 512, 4}));
  EXPECT_EQ(dims("blk.0.attn_v_b.weight"), (Dims{512, 128, 4}));
  EXPECT_EQ(dims("blk.2.ffn_down.weight"), (Dims{512, 256}));
  EXPECT_EQ(dims("blk.3.ffn_down_exps.weight"), (Dims{256, 256, 4}));
  EXPECT_EQ(dims("blk.3.ffn_gate_shexp.weight"), (Dims{256, 256}));
  EXPECT_EQ(dims("blk.3.exp_probs_b.bias"), (Dims{4}));
  EXPECT_EQ((*file)->FindTensor("blk.3.ffn_gate_inp.weight")->type, TensorType::kF32);
}

TEST_F(RandomModelTest, ImpossibleShapesAreRefused) {
  ModelShape shape = Small();
  shape.vocab = 20;
  EXPECT_THAT(std::string(Write(shape, "F16", 1).message()), HasSubstr("the vocabulary is 20, expected 259"));
  shape = Small();
  shape.kv_heads = 5;
  EXPECT_THAT(std::string(Write(shape, "F16", 1).message()), HasSubstr("KV heads is 5"));
  shape = Small();
  shape.architecture = "mamba";
  EXPECT_EQ(Write(shape, "F16", 1).code(), absl::StatusCode::kUnimplemented);
  EXPECT_TRUE(std::filesystem::is_empty(folder_));
}

TEST_F(RandomModelTest, CancellingLeavesNothing) {
  ThreadPool pool(2, /*pin=*/false);
  int asked = 0;
  const absl::Status status = WriteRandomModel(*FindModelShape("llama-1b"), *FindFileType("Q8_0"), 1, path(), pool,
                                               nullptr, [&asked] { return ++asked > 2; });
  EXPECT_EQ(status.code(), absl::StatusCode::kCancelled);
  EXPECT_TRUE(std::filesystem::is_empty(folder_));
}

TEST(PieceRunnerTest, PiecesCoverEveryRowOnceAndTheFirstErrorIsReturned) {
  ThreadPool pool(3, /*pin=*/false);
  const std::vector<PieceShape> shapes = {
      {.rows = 1, .row_bytes = 8}, {.rows = 5000, .row_bytes = 4096}, {}, {.rows = 7, .row_bytes = 1}};
  std::vector<std::vector<std::atomic<int>>> seen;
  for (const PieceShape& shape : shapes) seen.emplace_back(shape.rows);
  uint64_t last = 0;
  const auto count = [&](const Piece& piece, int) {
    for (uint64_t row = piece.first_row; row < piece.first_row + piece.rows; ++row) ++seen[piece.tensor][row];
    return absl::OkStatus();
  };
  EXPECT_TRUE(ForEachPiece(
                  shapes, pool,
                  [&](uint64_t done, uint64_t total) {
                    EXPECT_GT(done, last);
                    EXPECT_EQ(total, 8u + 5000 * 4096 + 7);
                    last = done;
                  },
                  nullptr, count)
                  .ok());
  EXPECT_EQ(last, 8u + 5000 * 4096 + 7);
  for (const auto& rows : seen) {
    for (const auto& row : rows) EXPECT_EQ(row, 1);
  }
  const auto fail = [](const Piece& piece, int) {
    return piece.tensor == 1 ? absl::UnavailableError("disk") : absl::OkStatus();
  };
  EXPECT_EQ(ForEachPiece(shapes, pool, nullptr, nullptr, fail).code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace tandem::engine
