// Windows over a text, and the logits that come out of them, against one pass over the same tokens.
#include "engine/evaluation/text_scoring.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <memory>
#include <vector>

#include "engine/evaluation/prediction_quality.h"
#include "engine/tokenizer/tokenizer.h"
#include "tests/support/reference.h"
#include "tests/support/stage_runner.h"
#include "tests/support/tiny_model.h"

namespace tandem::engine {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(CutWindowsTest, EveryTokenIsScoredOnceWithEnoughBeforeIt) {
  for (const int32_t bos : {-1, 1}) {
    for (const int32_t context : {2, 3, 8, 50}) {
      for (int32_t stride = 1; stride <= context; ++stride) {
        for (int64_t tokens = 2; tokens < 40; ++tokens) {
          int64_t next = bos >= 0 ? 0 : 1;
          for (const ScoringWindow& w : CutWindows(tokens, {.context = context, .stride = stride, .bos = bos})) {
            EXPECT_EQ(w.first_scored, next);
            EXPECT_LT(w.first_scored, w.end);
            EXPECT_LE(w.end - w.begin - 1 + (bos >= 0 ? 1 : 0), context);  // what the model sees
            if (w.begin > 0) {
              EXPECT_GE(w.first_scored - w.begin, context - stride);
            }
            next = w.end;
          }
          EXPECT_EQ(next, tokens);
        }
      }
    }
  }
}

TEST(CutWindowsTest, ByHand) {
  EXPECT_THAT(
      CutWindows(10, {.context = 4, .stride = 2, .bos = 1}),
      ElementsAre(ScoringWindow{0, 4, 0}, ScoringWindow{2, 6, 4}, ScoringWindow{4, 8, 6}, ScoringWindow{6, 10, 8}));
  EXPECT_THAT(CutWindows(10, {.context = 4, .stride = 4, .bos = -1}),
              ElementsAre(ScoringWindow{0, 5, 1}, ScoringWindow{4, 9, 5}, ScoringWindow{8, 10, 9}));
}

class TextScoringTest : public ::testing::Test {
 protected:
  void Open(const GgufFile& file, int num_pages = 64) {
    auto runner = testing::StageRunner::Create(file, {.threads = 2, .num_pages = num_pages, .max_step_tokens = 16});
    ASSERT_TRUE(runner.ok()) << runner.status();
    runner_ = *std::move(runner);
  }
  struct Scored {
    std::vector<int32_t> targets;
    std::vector<float> logits;
  };
  absl::StatusOr<Scored> Score(std::span<const int32_t> text, const ScoringOptions& options) {
    Scored scored;
    const absl::Status status = ScoreText(runner_->stage(0), runner_->spec().vocab, text, options, nullptr,
                                          [&](std::span<const int32_t> targets, std::span<const float> logits) {
                                            scored.targets.insert(scored.targets.end(), targets.begin(), targets.end());
                                            scored.logits.insert(scored.logits.end(), logits.begin(), logits.end());
                                            return absl::OkStatus();
                                          });
    if (!status.ok()) return status;
    return scored;
  }
  std::unique_ptr<testing::StageRunner> runner_;
};

TEST_F(TextScoringTest, LogitsAreThoseOfEachWindowAlone) {
  const testing::TinyFile tiny = testing::ParseTinyModel(testing::TinyModelShape{});
  Open(*tiny.file);
  std::vector<int32_t> text;
  for (int i = 0; i < 100; ++i) text.push_back(3 + i * 37 % 300);
  const int32_t vocab = runner_->spec().vocab;
  for (const ScoringOptions& options :
       {ScoringOptions{.context = 40, .stride = 20, .bos = 1}, ScoringOptions{.context = 40, .stride = 33, .bos = -1},
        ScoringOptions{.context = 200, .stride = 100, .bos = 1}}) {
    const auto scored = Score(text, options);
    ASSERT_TRUE(scored.ok()) << scored.status();
    const int skipped = options.bos >= 0 ? 0 : 1;
    EXPECT_EQ(scored->targets, std::vector<int32_t>(text.begin() + skipped, text.end()));
    std::vector<float> expected;
    for (const ScoringWindow& window : CutWindows(text.size(), options)) {
      std::vector<int32_t> input;
      if (options.bos >= 0) input.push_back(options.bos);
      input.insert(input.end(), text.begin() + window.begin, text.begin() + window.end - 1);
      const auto logits = runner_->Logits(input, 16);
      ASSERT_TRUE(logits.ok()) << logits.status();
      const int64_t first = window.first_scored - window.begin - skipped;
      expected.insert(expected.end(), logits->begin() + first * vocab, logits->end());
    }
    EXPECT_EQ(scored->logits, expected);
  }
}

TEST_F(TextScoringTest, OptionsOutOfRangeAreNamed) {
  const testing::TinyFile tiny = testing::ParseTinyModel(testing::TinyModelShape{});
  Open(*tiny.file, /*num_pages=*/4);
  const std::vector<int32_t> text = {5, 6, 7};
  EXPECT_THAT(std::string(Score(text, {.context = 65, .stride = 1}).status().message()), HasSubstr("expected 2 to 64"));
  EXPECT_THAT(std::string(Score(text, {.context = 8, .stride = 9}).status().message()), HasSubstr("the stride is 9"));
  EXPECT_THAT(std::string(Score(text, {.context = 8, .stride = 0}).status().message()), HasSubstr("the stride is 0"));
  EXPECT_THAT(std::string(Score({text.data(), 1}, {.context = 8, .stride = 4}).status().message()),
              HasSubstr("1 tokens"));
}

TEST_F(TextScoringTest, CancelsWhenToldTo) {
  const testing::TinyFile tiny = testing::ParseTinyModel(testing::TinyModelShape{});
  Open(*tiny.file);
  const std::vector<int32_t> text(50, 7);
  int calls = 0;
  const absl::Status status = ScoreText(
      runner_->stage(0), runner_->spec().vocab, text, {.context = 8, .stride = 8, .bos = 1},
      [&calls](int64_t, int64_t) { return ++calls < 3; }, [](auto, auto) { return absl::OkStatus(); });
  EXPECT_EQ(status.code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(calls, 3);
}

// A trained model: its own text is far likelier than the same tokens in another order.
TEST_F(TextScoringTest, ATrainedModelPredictsItsText) {
  const std::string folder = testing::ReferenceFolder();
  if (folder.empty()) GTEST_SKIP() << testing::kNoReference;
  const auto file = GgufFile::Open(folder + "/models/stories260k-f32.gguf");
  ASSERT_TRUE(file.ok()) << file.status();
  Open(**file);
  const auto stories = testing::ReadReferenceStories("models/stories260k.json");
  ASSERT_FALSE(stories.empty());
  std::vector<int32_t> text = stories[0].prompt_ids;
  text.insert(text.end(), stories[0].greedy_ids.begin(), stories[0].greedy_ids.end());
  const auto perplexity = [&](const std::vector<int32_t>& tokens) {
    const auto scored = Score(tokens, {.context = 128, .stride = 64, .bos = -1});
    EXPECT_TRUE(scored.ok()) << scored.status();
    std::vector<double> nll, row(runner_->spec().vocab);
    for (size_t i = 0; i < scored->targets.size(); ++i) {
      LogSoftmax(std::span(scored->logits).subspan(i * row.size(), row.size()), row);
      nll.push_back(-row[scored->targets[i]]);
    }
    return PerplexityOf(nll).value;
  };
  const double told = perplexity(text);
  std::reverse(text.begin() + 1, text.end());
  EXPECT_LT(told, 4);
  EXPECT_GT(perplexity(text), 20 * told);
}

}  // namespace
}  // namespace tandem::engine
