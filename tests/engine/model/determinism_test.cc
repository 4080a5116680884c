// One answer per token: the same bits whatever the split, the chunks, the batch mates, the threads and the instruction
// set. Every test compares raw logits for equality.

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/support/reference.h"
#include "tests/support/stage_runner.h"
#include "tests/support/tiny_model.h"

namespace tandem::engine {
namespace {

using testing::ParseTinyModel;
using testing::StageRunner;
using testing::StageRunnerOptions;
using testing::TinyFile;
using testing::TinyModelShape;

constexpr KvType kKvTypes[] = {KvType::kF32, KvType::kF16, KvType::kBF16, KvType::kQ8_0, KvType::kQ4_0};
constexpr int kTokens = 71;  // five pages of 16, the last one not full; two blocks of keys

std::vector<int32_t> SomeTokens(int count, int32_t vocab, int32_t start) {
  std::vector<int32_t> tokens(count);
  for (int i = 0; i < count; ++i) tokens[i] = (start + i * 37) % vocab;
  return tokens;
}

TinyModelShape ShapeFor(TensorType type) {
  TinyModelShape shape{.layers = 5, .head_dim = 32, .type = type, .seed = 7};
  if (type == TensorType::kQ4_K || type == TensorType::kQ6_K) {
    shape.hidden = 256;
    shape.ffn = 256;
    shape.heads = 16;
    shape.kv_heads = 4;
    shape.layers = 2;  // these formats are slow to quantise to
  } else {
    shape.ffn = 96;
    shape.vocab_size = 313;  // a last row group that is not full
  }
  return shape;
}

std::unique_ptr<StageRunner> MakeRunner(const GgufFile& file, const StageRunnerOptions& options) {
  absl::StatusOr<std::unique_ptr<StageRunner>> runner = StageRunner::Create(file, options);
  EXPECT_TRUE(runner.ok()) << runner.status();
  return runner.ok() ? *std::move(runner) : nullptr;
}

std::vector<float> LogitsWith(const GgufFile& file, const StageRunnerOptions& options, int chunk = kTokens) {
  StageRunnerOptions whole = options;
  whole.max_step_tokens = kTokens;
  const auto runner = MakeRunner(file, whole);
  if (runner == nullptr) return {};
  const auto logits = runner->Logits(SomeTokens(kTokens, runner->spec().vocab, 3), chunk);
  EXPECT_TRUE(logits.ok()) << logits.status();
  return logits.ok() ? *logits : std::vector<float>();
}

// Equality of thousands of logits, with a short message.
void ExpectSame(const std::vector<float>& a, const std::vector<float>& b, const std::string& what) {
  ASSERT_EQ(a.size(), b.size()) << what;
  const auto [x, y] = std::mismatch(a.begin(), a.end(), b.begin());
  EXPECT_TRUE(x == a.end()) << what << ": value " << (x - a.begin()) << " is " << *x << " and " << *y;
}

class DeterminismTest : public ::testing::TestWithParam<TensorType> {
 protected:
  DeterminismTest() : tiny_(ParseTinyModel(ShapeFor(GetParam()))) {}
  const GgufFile& file() const { return *tiny_.file; }
  // One stage, one thread, one chunk, the instructions that define the result.
  std::vector<float> Expected(KvType kv_type = KvType::kF32) {
    std::vector<float> logits = LogitsWith(file(), {.kv_type = kv_type, .isa = Isa::kScalar});
    EXPECT_FALSE(logits.empty());
    const auto [low, high] = std::minmax_element(logits.begin(), logits.end());
    EXPECT_GT(*high - *low, 1.0f) << "the logits hardly differ, so their equality says nothing";
    return logits;
  }

 private:
  const TinyFile tiny_;
};

TEST_P(DeterminismTest, AnySplitGivesTheSameLogits) {
  const std::vector<float> expected = Expected();
  const int layers = ShapeFor(GetParam()).layers;
  for (int stages = 2; stages <= layers; ++stages) {
    ExpectSame(LogitsWith(file(), {.stages = stages, .isa = Isa::kScalar}), expected, absl::StrCat(stages, " stages"));
  }
}

TEST_P(DeterminismTest, EveryInstructionSetGivesTheSameLogits) {
  for (const KvType kv_type : kKvTypes) {
    const std::vector<float> expected = Expected(kv_type);
    for (const Isa isa : SupportedIsas()) {
      ExpectSame(LogitsWith(file(), {.kv_type = kv_type, .isa = isa}), expected, std::string(IsaName(isa)));
      ExpectSame(LogitsWith(file(), {.kv_type = kv_type, .isa = isa}, 1), expected,
                 absl::StrCat(IsaName(isa), ", one token at a time"));
    }
  }
}

TEST_P(DeterminismTest, AnyNumberOfThreadsGivesTheSameLogits) {
  const std::vector<float> expected = Expected();
  for (int threads : {2, 3}) {
    ExpectSame(LogitsWith(file(), {.threads = threads}), expected, absl::StrCat(threads, " threads"));
    ExpectSame(LogitsWith(file(), {.threads = threads}, 1), expected, absl::StrCat(threads, " threads, single tokens"));
  }
}

TEST_P(DeterminismTest, AnyChunkGivesTheSameLogits) {
  for (const KvType kv_type : kKvTypes) {
    const std::vector<float> expected = Expected(kv_type);
    for (int chunk : {1, 3, 16}) {
      ExpectSame(LogitsWith(file(), {.kv_type = kv_type}, chunk), expected, absl::StrCat("chunks of ", chunk));
    }
  }
}

TEST_P(DeterminismTest, AnyPageSizeGivesTheSameLogits) {
  for (const KvType kv_type : kKvTypes) {
    ExpectSame(LogitsWith(file(), {.kv_type = kv_type, .page_tokens = 48}), Expected(kv_type), "pages of 48");
  }
}

// Three sequences share every step: one is fed in chunks of 4, one in chunks of 7, one token by token, on pages that
// lie mixed up.
TEST_P(DeterminismTest, BatchMatesChangeNothing) {
  const auto runner = MakeRunner(file(), {.stages = 2, .threads = 2});
  ASSERT_NE(runner, nullptr);
  const int32_t vocab = runner->spec().vocab;
  struct Mate {
    size_t chunk;
    std::vector<int32_t> tokens;
    std::vector<uint32_t> pages;
    size_t done = 0;
    std::vector<float> logits;
  };
  std::vector<Mate> mates = {{4, SomeTokens(33, vocab, 5), {7, 2, 9}},
                             {7, SomeTokens(39, vocab, 11), {1, 8, 0}},
                             {1, SomeTokens(20, vocab, 101), {63, 4}}};
  const auto unfinished = [](const Mate& m) { return m.done < m.tokens.size(); };
  while (std::any_of(mates.begin(), mates.end(), unfinished)) {
    Step step;
    std::vector<Mate*> in_step;
    for (Mate& m : mates) {
      if (!unfinished(m)) continue;
      const size_t count = std::min(m.chunk, m.tokens.size() - m.done);
      step.slices.push_back({.position = static_cast<int32_t>(m.done),
                             .tokens = std::span(m.tokens).subspan(m.done, count),
                             .pages = m.pages,
                             .output = SliceOutput::kLogits});
      in_step.push_back(&m);
      m.done += count;
    }
    StepResult result;
    ASSERT_TRUE(runner->Run(step, &result).ok());
    ASSERT_EQ(result.results.size(), in_step.size());
    for (size_t i = 0; i < in_step.size(); ++i) {
      const std::vector<float>& part = result.results[i].logits;
      in_step[i]->logits.insert(in_step[i]->logits.end(), part.begin(), part.end());
    }
  }
  const auto alone = MakeRunner(file(), {});
  ASSERT_NE(alone, nullptr);
  for (const Mate& m : mates) {
    const auto expected = alone->Logits(m.tokens, static_cast<int>(m.tokens.size()));
    ASSERT_TRUE(expected.ok()) << expected.status();
    ExpectSame(m.logits, *expected, absl::StrCat("chunks of ", m.chunk));
  }
}

INSTANTIATE_TEST_SUITE_P(Types, DeterminismTest,
                         ::testing::Values(TensorType::kF32, TensorType::kF16, TensorType::kQ8_0, TensorType::kQ4_K,
                                           TensorType::kQ6_K),
                         [](const auto& info) { return std::string(FindBlockFormat(info.param)->name); });

// The same over a trained model.
TEST(StoriesDeterminismTest, LogitsAreTheSameForAnySplitAndInstructionSet) {
  if (testing::ReferenceFolder().empty()) GTEST_SKIP() << testing::kNoReference;
  const auto file = GgufFile::Open(testing::ReferenceFolder() + "/models/stories260k-f32.gguf");
  ASSERT_TRUE(file.ok()) << file.status();
  const std::vector<float> expected = LogitsWith(**file, {.isa = Isa::kScalar});
  ASSERT_FALSE(expected.empty());
  for (int stages : {1, 2, 3, 5}) {
    for (const Isa isa : SupportedIsas()) {
      ExpectSame(LogitsWith(**file, {.stages = stages, .isa = isa, .threads = 2}, 16), expected,
                 absl::StrCat(stages, " stages, ", IsaName(isa)));
    }
  }
}

}  // namespace
}  // namespace tandem::engine
