// Stage::Run: results, and every refusal of a step that does not fit.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "engine/stage.h"
#include "tests/support/stage_runner.h"
#include "tests/support/tiny_model.h"

namespace tandem::engine {
namespace {

using ::testing::HasSubstr;
using testing::MakeTinyModel;
using testing::ParseTinyModel;
using testing::StageRunner;
using testing::TinyFile;
using testing::TinyModel;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Two stages of a model with 320 tokens, 8 pages of 16 and at most 20 tokens a step.
class StageRunTest : public ::testing::Test {
 protected:
  StageRunTest() : runner_(Make(MakeTinyModel({}))) {}

  static std::unique_ptr<StageRunner> Make(const TinyModel& model) {
    const TinyFile tiny = ParseTinyModel(model);
    auto runner = StageRunner::Create(*tiny.file, {.stages = 2, .num_pages = 8, .max_step_tokens = 20});
    EXPECT_TRUE(runner.ok()) << runner.status();
    return *std::move(runner);
  }

  // Runs `step` on a stage and expects kInvalidArgument with `says` in the message.
  void ExpectRefused(int stage, const Step& step, const std::string& says) {
    StepResult result;
    const absl::Status status = runner_->stage(stage).Run(step, &result);
    EXPECT_EQ(status.code(), kInvalid) << says;
    EXPECT_THAT(std::string(status.message()), HasSubstr(says));
  }
  // The same for a step of one good slice, changed.
  template <typename Change>
  void ExpectSliceRefused(int stage, const std::string& says, Change change) {
    Step step;
    step.slices.push_back(Good());
    std::vector<float> hidden(stage == 0 ? 0 : 3 * 64, 0.5f);
    step.hidden = hidden;
    StepResult result;
    ASSERT_TRUE(runner_->stage(stage).Run(step, &result).ok());
    change(step.slices[0]);
    ExpectRefused(stage, step, says);
  }
  Slice Good() const {
    return {.position = 14, .tokens = tokens_, .pages = pages_, .output = SliceOutput::kSample, .sampling = &greedy_};
  }

  const std::unique_ptr<StageRunner> runner_;
  const std::vector<int32_t> tokens_ = {5, 6, 7};
  const std::vector<uint32_t> pages_ = {3, 1};
  const SamplingParams greedy_;
};

TEST_F(StageRunTest, ResultsFollowTheOutputsAskedFor) {
  const std::vector<int32_t> a = {1, 2, 3}, b = {4}, c = {5, 6};
  const std::vector<uint32_t> pages_a = {0}, pages_b = {1}, pages_c = {2};
  Step step;
  step.slices.push_back({.tokens = a, .pages = pages_a, .output = SliceOutput::kNone});
  step.slices.push_back({.tokens = b, .pages = pages_b, .output = SliceOutput::kSample, .sampling = &greedy_});
  step.slices.push_back({.tokens = c, .pages = pages_c, .output = SliceOutput::kLogits});
  StepResult first, result;
  ASSERT_TRUE(runner_->stage(0).Run(step, &first).ok());
  EXPECT_EQ(first.hidden.size(), 6u * 64);
  EXPECT_TRUE(first.results.empty());
  ASSERT_TRUE(runner_->Run(step, &result).ok());
  EXPECT_TRUE(result.hidden.empty());
  ASSERT_EQ(result.results.size(), 2u);
  EXPECT_EQ(result.results[0].slice, 1);
  EXPECT_GE(result.results[0].sampled.at(0).token, 0);
  EXPECT_TRUE(result.results[0].logits.empty());
  EXPECT_EQ(result.results[1].slice, 2);
  EXPECT_EQ(result.results[1].logits.size(), 2u * 320);

  const auto logits = runner_->Logits(b, 1);
  ASSERT_TRUE(logits.ok());
  EXPECT_EQ(result.results[0].sampled.at(0).token, std::max_element(logits->begin(), logits->end()) - logits->begin());
}

TEST_F(StageRunTest, MoreRowsThanTheHeadTakesAtOnce) {
  const TinyFile tiny = ParseTinyModel(testing::TinyModelShape{});
  const auto runner = StageRunner::Create(*tiny.file, {.threads = 2, .num_pages = 8, .max_step_tokens = 100});
  ASSERT_TRUE(runner.ok());
  std::vector<int32_t> tokens(100);
  for (int i = 0; i < 100; ++i) tokens[i] = i * 3;
  const auto whole = (*runner)->Logits(tokens, 100), parts = (*runner)->Logits(tokens, 9);
  ASSERT_TRUE(whole.ok() && parts.ok());
  EXPECT_EQ(whole->size(), 100u * 320);
  EXPECT_TRUE(*whole == *parts);
}

TEST_F(StageRunTest, SamplingIsUsed) {
  SamplingParams bias;
  bias.logit_bias = {{123, 1000.0f}};
  bias.top_logprobs = 2;
  Step step;
  step.slices.push_back(Good());
  step.slices[0].sampling = &bias;
  StepResult result;
  ASSERT_TRUE(runner_->Run(step, &result).ok());
  EXPECT_EQ(result.results.at(0).sampled.at(0).token, 123);
  EXPECT_EQ(result.results.at(0).sampled.at(0).top.size(), 2u);
}

TEST_F(StageRunTest, CopiedPageIsReadAndWrittenOnLikeTheOriginal) {
  const std::vector<int32_t> beginning = {9, 8, 7, 6, 5}, rest = {100, 101};
  const std::vector<uint32_t> original = {0}, copy = {6};
  Step step;
  step.slices.push_back({.tokens = beginning, .pages = original});
  StepResult result, copied;
  ASSERT_TRUE(runner_->Run(step, &result).ok());
  step.slices[0] = {.position = 5, .tokens = rest, .pages = copy, .output = SliceOutput::kLogits};
  step.copies = {{.from = 0, .to = 6}};
  ASSERT_TRUE(runner_->Run(step, &copied).ok());
  step.slices[0].pages = original;
  step.copies.clear();
  ASSERT_TRUE(runner_->Run(step, &result).ok());
  EXPECT_EQ(copied.results.at(0).logits, result.results.at(0).logits);
}

TEST_F(StageRunTest, GuessesGiveTheDrawsOfStepsOneByOne) {
  SamplingParams sampling;
  sampling.temperature = 0.7f;
  sampling.seed = 3;
  sampling.presence_penalty = 1.5f;
  sampling.penalty_window = 4;
  const std::vector<uint32_t> pages = {0, 1}, other_pages = {2, 3};
  std::vector<int32_t> text = {9, 8, 7, 6, 5};
  const auto recent = [&] { return std::span<const int32_t>(text).last(4); };
  Step step;
  StepResult result;
  for (int i = 0; i < 6; ++i) {
    const size_t position = i == 0 ? 0 : text.size() - 1;
    step.slices = {{.position = static_cast<int32_t>(position),
                    .tokens = std::span<const int32_t>(text).subspan(position),
                    .pages = pages,
                    .output = SliceOutput::kSample,
                    .sampling = &sampling,
                    .draw = {.recent = recent()}}};
    ASSERT_TRUE(runner_->Run(step, &result).ok());
    text.push_back(result.results.at(0).sampled.at(0).token);
  }
  const std::vector<int32_t> drawn(text.begin() + 5, text.end());

  for (int wrong = 1; wrong <= 5; ++wrong) {  // the guess that is not right; the fifth is not there
    std::vector<int32_t> tokens(text.begin(), text.begin() + 9), last(text.begin() + 1, text.begin() + 9);
    if (wrong < 5) tokens[4 + wrong] = last[3 + wrong] = (tokens[4 + wrong] + 1) % 320;
    step.slices = {{.tokens = tokens,
                    .pages = other_pages,
                    .output = SliceOutput::kSample,
                    .sampling = &sampling,
                    .draw = {.recent = last},
                    .guesses = 4}};
    ASSERT_TRUE(runner_->Run(step, &result).ok());
    std::vector<int32_t> with_guesses;
    for (const SampledToken& each : result.results.at(0).sampled) with_guesses.push_back(each.token);
    EXPECT_EQ(with_guesses, std::vector<int32_t>(drawn.begin(), drawn.begin() + wrong)) << "guess " << wrong;
  }
}

TEST_F(StageRunTest, GuessesThatCannotBeCheckedAreRefused) {
  SamplingParams mirostat;
  mirostat.temperature = 1.0f;
  mirostat.mirostat = 2;
  const std::vector<int32_t> one = {1};
  const std::vector<std::pair<int32_t, float>> dry = {{5, 1.0f}};
  ExpectSliceRefused(0, "it has 3 guesses, expected 0 to 2", [](Slice& s) { s.guesses = 3; });
  ExpectSliceRefused(0, "it has -1 guesses", [](Slice& s) { s.guesses = -1; });
  ExpectSliceRefused(0, "it has 1 guesses, though no token is to be drawn", [](Slice& s) {
    s.guesses = 1;
    s.output = SliceOutput::kLogits;
  });
  ExpectSliceRefused(1, "recent has 1 tokens, expected at least the 2 guesses", [&](Slice& s) {
    s.guesses = 2;
    s.draw.recent = one;
  });
  ExpectSliceRefused(1, "which depend on the tokens before", [&](Slice& s) {
    s.guesses = 2;
    s.draw.dry = dry;
  });
  ExpectSliceRefused(1, "which depend on the tokens before", [&](Slice& s) {
    s.guesses = 2;
    s.sampling = &mirostat;
  });
}

TEST_F(StageRunTest, CopiesOfPagesThatAreNotThereAreRefused) {
  Step step;
  step.slices.push_back(Good());
  step.copies = {{.from = 0, .to = 7}, {.from = 8, .to = 1}};
  ExpectRefused(0, step, "copies[1] is from page 8 to page 1, the stage has pages 0 to 7");
  step.copies = {{.from = 0, .to = 4000000000}};
  ExpectRefused(0, step, "copies[0] is from page 0 to page 4000000000");
  step.copies.assign(9, {.from = 0, .to = 1});
  ExpectRefused(0, step, "the step copies 9 pages, expected at most the stage's 8");
}

TEST_F(StageRunTest, StepWithoutSlicesOrWithTooManyIsRefused) {
  Step step;
  ExpectRefused(0, step, "0 slices, expected 1 to 20");
  step.slices.assign(21, Good());
  ExpectRefused(0, step, "21 slices");
}

TEST_F(StageRunTest, BadSlicesAreRefused) {
  const std::vector<int32_t> none, many(21, 1), negative = {5, -1}, large = {320};
  const std::vector<uint32_t> one_page = {3}, foreign = {3, 8}, nine = {0, 1, 2, 3, 4, 5, 6, 7, 0};
  ExpectSliceRefused(0, "slice 0: it has 0 tokens, expected 1 to 20", [&](Slice& s) { s.tokens = none; });
  ExpectSliceRefused(0, "it has 21 tokens", [&](Slice& s) { s.tokens = many; });
  ExpectSliceRefused(0, "position is -1", [](Slice& s) { s.position = -1; });
  ExpectSliceRefused(0, "position is 2147483647, expected 0 to 1048573",
                     [](Slice& s) { s.position = std::numeric_limits<int32_t>::max(); });
  ExpectSliceRefused(0, "it has 1 pages and needs 2", [&](Slice& s) { s.pages = one_page; });
  ExpectSliceRefused(0, "needs 9", [&](Slice& s) {
    s.position = 126;
    s.pages = nine;
  });
  ExpectSliceRefused(0, "pages[1] is 8, the stage has pages 0 to 7", [&](Slice& s) { s.pages = foreign; });
  ExpectSliceRefused(0, "output is 6", [](Slice& s) { s.output = static_cast<SliceOutput>(6); });
  ExpectSliceRefused(0, "tokens[1] is token -1", [&](Slice& s) { s.tokens = negative; });
  ExpectSliceRefused(0, "tokens[0] is token 320, the vocabulary has ids 0 to 319", [&](Slice& s) {
    s.tokens = large;
    s.position = 0;
  });
}

TEST_F(StageRunTest, BadSamplingIsRefusedByTheLastStage) {
  SamplingParams bad;
  bad.top_p = 2.0f;
  const std::vector<int32_t> recent = {1, 320};
  ExpectSliceRefused(1, "sampling is missing", [](Slice& s) { s.sampling = nullptr; });
  ExpectSliceRefused(1, "slice 0: top_p", [&](Slice& s) { s.sampling = &bad; });
  ExpectSliceRefused(1, "recent[1] is token 320", [&](Slice& s) { s.draw.recent = recent; });
  Step step;  // the first stage does not sample, so it asks for nothing
  step.slices.push_back(Good());
  step.slices[0].sampling = nullptr;
  StepResult result;
  EXPECT_TRUE(runner_->stage(0).Run(step, &result).ok());
}

TEST_F(StageRunTest, TokensOfAllSlicesAreCounted) {
  const std::vector<int32_t> eleven(11, 1);
  const std::vector<uint32_t> a = {0}, b = {1};
  Step step;
  step.slices.push_back({.tokens = eleven, .pages = a});
  step.slices.push_back({.tokens = eleven, .pages = b});
  ExpectRefused(0, step, "slice 1: it has 11 tokens, expected 1 to 9 (max_step_tokens is 20)");
}

TEST_F(StageRunTest, WrongHiddenStateIsRefused) {
  std::vector<float> hidden(3 * 64, 0.5f);
  Step step;
  step.slices.push_back(Good());
  step.hidden = hidden;
  ExpectRefused(0, step, "192 hidden values, expected 0");
  step.hidden = std::span(hidden).first(191);
  ExpectRefused(1, step, "191 hidden values, expected 192 (3 tokens of 64)");
  step.hidden = hidden;
  for (float bad : {kNan, kInfinity, -kInfinity}) {
    hidden[77] = bad;
    ExpectRefused(1, step, "infinite or not a number");
  }
}

TEST_F(StageRunTest, PagesThatSlicesShareAreRefused) {
  const std::vector<int32_t> token = {1}, two = {1, 2};
  const std::vector<uint32_t> a = {0, 1}, same_write = {2, 1}, reads_written = {1, 3}, twice = {4, 4},
                              shared_prefix = {0, 5};
  Step step;
  step.slices.push_back({.position = 16, .tokens = token, .pages = a});
  step.slices.push_back({.position = 17, .tokens = token, .pages = same_write});
  ExpectRefused(0, step, "slice 1: pages[1] is 1, which this step writes for other tokens too");
  step.slices[1] = {.position = 16, .tokens = token, .pages = reads_written};
  ExpectRefused(0, step, "slice 1: pages[0] is 1, which this step writes");
  step.slices[1] = {.position = 15, .tokens = two, .pages = twice};
  ExpectRefused(0, step, "slice 1: pages[1] is 4");
  step.slices[1] = {.position = 16, .tokens = token, .pages = shared_prefix};  // only read by both
  StepResult result;
  EXPECT_TRUE(runner_->stage(0).Run(step, &result).ok());
  EXPECT_TRUE(runner_->stage(0).Run(step, &result).ok()) << "the pages are free again in the next step";
}

// A refused or failed step leaves the pages of other sequences as they were.
TEST_F(StageRunTest, RefusedStepChangesNothing) {
  const std::vector<int32_t> prompt = {1, 2, 3, 4}, more = {9, 9}, bad = {400};
  const std::vector<uint32_t> page = {0}, other = {1};
  const auto expected = runner_->Logits(std::vector<int32_t>{1, 2, 3, 4, 9, 9}, 6);
  ASSERT_TRUE(expected.ok());
  Step step;
  step.slices.push_back({.tokens = prompt, .pages = page});
  StepResult result;
  ASSERT_TRUE(runner_->Run(step, &result).ok());
  step.slices[0] = {.tokens = bad, .pages = other};
  EXPECT_EQ(runner_->Run(step, &result).code(), kInvalid);
  step.slices[0] = {.position = 4, .tokens = more, .pages = page, .output = SliceOutput::kLogits};
  ASSERT_TRUE(runner_->Run(step, &result).ok());
  EXPECT_TRUE(std::equal(result.results[0].logits.begin(), result.results[0].logits.end(), expected->end() - 2 * 320));
}

// Broken weights: wherever the bad number is, the step fails instead of answering.
class BrokenWeightsTest : public ::testing::TestWithParam<const char*> {};

TEST_P(BrokenWeightsTest, ReturnsInternal) {
  for (float bad : {kNan, kInfinity}) {
    for (TensorType type : {TensorType::kF32, TensorType::kQ8_0}) {
      TinyModel model = MakeTinyModel({.type = type});
      auto& tensor = model.tensors.at(GetParam());
      if (tensor.type == TensorType::kF32) {
        std::copy_n(reinterpret_cast<const std::byte*>(&bad), sizeof(bad), tensor.data.begin());
      } else {
        const uint16_t scale = FloatToHalf(bad);  // of the first block
        std::copy_n(reinterpret_cast<const std::byte*>(&scale), sizeof(scale), tensor.data.begin());
      }
      const TinyFile tiny = ParseTinyModel(model);
      const auto runner = StageRunner::Create(*tiny.file, {.stages = 2});
      ASSERT_TRUE(runner.ok()) << runner.status();
      const std::vector<int32_t> tokens = {0, 1, 2};
      const auto logits = (*runner)->Logits(tokens, 3);
      EXPECT_EQ(logits.status().code(), absl::StatusCode::kInternal) << bad << ": " << logits.status();
      EXPECT_THAT(std::string(logits.status().message()), HasSubstr("weights are broken"));
      EXPECT_EQ((*runner)->Greedy(tokens, 1).status().code(), absl::StatusCode::kInternal) << bad;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Tensors, BrokenWeightsTest,
                         ::testing::Values("token_embd.weight", "blk.0.attn_norm.weight", "blk.0.attn_q.weight",
                                           "blk.0.attn_v.weight", "blk.1.attn_k.weight", "blk.1.attn_output.weight",
                                           "blk.0.ffn_gate.weight", "blk.1.ffn_down.weight", "output_norm.weight",
                                           "output.weight"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::replace(name.begin(), name.end(), '.', '_');
                           return name;
                         });

}  // namespace
}  // namespace tandem::engine
