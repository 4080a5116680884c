// Hidden states as results. The model's head is the identity, so its logits are the states behind the output norm, bit
// for bit, and every result can be held against them.

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "tests/support/stage_runner.h"
#include "tests/support/tiny_model.h"

namespace tandem::engine {
namespace {

using ::testing::HasSubstr;
using testing::ParseTinyModel;
using testing::StageRunner;
using testing::StageRunnerOptions;
using testing::TinyFile;
using testing::TinyModel;

constexpr int kHidden = 320;  // also the vocabulary
constexpr int kTokens = 39;   // three pages of 16, the last one not full

TinyModel IdentityHeadModel() {
  TinyModel model = testing::MakeTinyModel({.layers = 3, .hidden = kHidden, .vocab_size = kHidden, .seed = 11});
  std::vector<float> identity(kHidden * kHidden);
  for (int i = 0; i < kHidden; ++i) identity[i * kHidden + i] = 1.0f;
  model.SetTensor("output.weight", TensorType::kF32, {kHidden, kHidden}, identity);
  return model;
}

std::vector<int32_t> SomeTokens(int count, int start) {
  std::vector<int32_t> tokens(count);
  for (int i = 0; i < count; ++i) tokens[i] = (start + i * 37) % kHidden;
  return tokens;
}

std::unique_ptr<StageRunner> MakeRunner(const TinyFile& tiny, const StageRunnerOptions& options) {
  absl::StatusOr<std::unique_ptr<StageRunner>> runner = StageRunner::Create(*tiny.file, options);
  EXPECT_TRUE(runner.ok()) << runner.status();
  return runner.ok() ? *std::move(runner) : nullptr;
}

// What a coordinator gathers from the chunks of a prompt.
struct States {
  std::vector<float> first, last;
  std::vector<int64_t> sum = std::vector<int64_t>(kHidden);
  bool operator==(const States&) const = default;
};

absl::StatusOr<States> Gather(StageRunner& runner, const std::vector<int32_t>& tokens, size_t chunk) {
  States states;
  const std::vector<uint32_t> pages = runner.PagesFrom(0, static_cast<int>(tokens.size()));
  for (SliceOutput output : {SliceOutput::kFirstState, SliceOutput::kLastState, SliceOutput::kStateSum}) {
    for (size_t begin = 0; begin < tokens.size(); begin += chunk) {
      Step step;
      step.slices.push_back({.position = static_cast<int32_t>(begin),
                             .tokens = std::span(tokens).subspan(begin, std::min(chunk, tokens.size() - begin)),
                             .pages = pages,
                             .output = output});
      StepResult result;
      if (absl::Status status = runner.Run(step, &result); !status.ok()) return status;
      const SliceResult& slice = result.results.at(0);
      if (output == SliceOutput::kFirstState && begin == 0) states.first = slice.state;
      if (output == SliceOutput::kLastState) states.last = slice.state;
      if (output == SliceOutput::kStateSum) {
        for (int i = 0; i < kHidden; ++i) states.sum[i] += slice.state_sum.at(i);
      }
    }
  }
  return states;
}

States Expected(const std::vector<float>& logits) {
  States states;
  states.first.assign(logits.begin(), logits.begin() + kHidden);
  states.last.assign(logits.end() - kHidden, logits.end());
  for (size_t i = 0; i < logits.size(); ++i) {
    states.sum[i % kHidden] += std::llrint(std::ldexp(static_cast<double>(logits[i]), kStateSumBits));
  }
  return states;
}

TEST(StateOutputTest, StatesAreThoseThatTheHeadSees) {
  const TinyFile tiny = ParseTinyModel(IdentityHeadModel());
  auto runner = MakeRunner(tiny, {.isa = Isa::kScalar});
  const std::vector<int32_t> tokens = SomeTokens(kTokens, 3);
  const auto logits = runner->Logits(tokens, kTokens);
  ASSERT_TRUE(logits.ok()) << logits.status();
  const auto states = Gather(*runner, tokens, kTokens);
  ASSERT_TRUE(states.ok()) << states.status();
  EXPECT_NE(states->first, states->last);
  EXPECT_TRUE(*states == Expected(*logits));
}

TEST(StateOutputTest, NoBitDependsOnSplitChunksThreadsOrInstructionSet) {
  const TinyFile tiny = ParseTinyModel(IdentityHeadModel());
  const std::vector<int32_t> tokens = SomeTokens(kTokens, 3);
  const auto expected = Gather(*MakeRunner(tiny, {.isa = Isa::kScalar}), tokens, kTokens);
  ASSERT_TRUE(expected.ok());
  for (const StageRunnerOptions& options :
       {StageRunnerOptions{.stages = 2}, StageRunnerOptions{.stages = 3}, StageRunnerOptions{.threads = 3}}) {
    for (size_t chunk : {size_t{1}, size_t{7}, size_t{16}, size_t{kTokens}}) {
      const auto states = Gather(*MakeRunner(tiny, options), tokens, chunk);
      ASSERT_TRUE(states.ok()) << states.status();
      EXPECT_TRUE(*states == *expected) << options.stages << " stages, chunks of " << chunk;
    }
  }
}

TEST(StateOutputTest, BatchMatesOfEveryKindChangeNothing) {
  const TinyFile tiny = ParseTinyModel(IdentityHeadModel());
  auto runner = MakeRunner(tiny, {.max_step_tokens = 128});
  const SliceOutput outputs[] = {SliceOutput::kSample,  SliceOutput::kStateSum,  SliceOutput::kNone,
                                 SliceOutput::kLogits,  SliceOutput::kLastState, SliceOutput::kFirstState,
                                 SliceOutput::kStateSum};
  const SamplingParams greedy;
  Step step;
  std::vector<std::vector<int32_t>> tokens;
  std::vector<std::vector<uint32_t>> pages;
  for (int i = 0; i < 7; ++i) {
    tokens.push_back(SomeTokens(5 + 3 * i, 11 * i));
    pages.push_back(runner->PagesFrom(static_cast<uint32_t>(4 * i), 5 + 3 * i));
  }
  for (int i = 0; i < 7; ++i) {
    step.slices.push_back({.tokens = tokens[i], .pages = pages[i], .output = outputs[i], .sampling = &greedy});
  }
  StepResult together;
  ASSERT_TRUE(runner->Run(step, &together).ok());
  ASSERT_EQ(together.results.size(), 6u);
  for (const SliceResult& result : together.results) {
    const auto logits = runner->Logits(tokens[result.slice], 64);
    ASSERT_TRUE(logits.ok());
    const States expected = Expected(*logits);
    const SliceOutput output = outputs[result.slice];
    EXPECT_EQ(result.state_sum, output == SliceOutput::kStateSum ? expected.sum : std::vector<int64_t>());
    EXPECT_EQ(result.state, output == SliceOutput::kFirstState  ? expected.first
                            : output == SliceOutput::kLastState ? expected.last
                                                                : std::vector<float>());
    EXPECT_EQ(result.logits, output == SliceOutput::kLogits ? *logits : std::vector<float>());
  }
}

TEST(StateOutputTest, StatesTooLargeToSumAreRefusedAndReturnedOneByOne) {
  TinyModel model = IdentityHeadModel();
  model.SetTensor("output_norm.weight", TensorType::kF32, {kHidden}, std::vector<float>(kHidden, 1e6f));
  const TinyFile tiny = ParseTinyModel(model);
  auto runner = MakeRunner(tiny, {});
  const std::vector<int32_t> tokens = SomeTokens(3, 0);
  const auto states = Gather(*runner, tokens, 3);
  EXPECT_EQ(states.status().code(), absl::StatusCode::kOutOfRange) << states.status();
  EXPECT_THAT(std::string(states.status().message()), HasSubstr("32768"));
  Step step;
  const std::vector<uint32_t> pages = runner->PagesFrom(0, 3);
  step.slices.push_back({.tokens = tokens, .pages = pages, .output = SliceOutput::kLastState});
  StepResult result;
  ASSERT_TRUE(runner->Run(step, &result).ok());
  EXPECT_GT(std::fabs(result.results.at(0).state.at(0)), 32768.0f);
}

}  // namespace
}  // namespace tandem::engine
