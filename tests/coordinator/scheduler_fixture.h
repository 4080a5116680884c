// A scheduler and a pipeline in virtual time, and what its tests share.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "coordinator/scheduler/scheduler.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/coordinator/fake_model.h"

namespace tandem::coordinator {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::Prompt;

inline SchedulerConfig Config(int32_t stages = 1, int32_t pages = 64) {
  SchedulerConfig config;
  config.num_stages = stages;
  config.max_in_flight = stages + 1;
  config.num_pages = pages;
  config.page_tokens = 16;
  config.max_step_tokens = 256;
  config.context = 1024;
  return config;
}

// A scheduler and a pipeline that executes its steps in order, in virtual time: a step a tick and stage.
class SchedulerTest : public ::testing::Test {
 protected:
  void Start(const SchedulerConfig& config, int32_t max_waiting = 100) {
    config_ = config;
    scheduler_.emplace(max_waiting);
    EXPECT_THAT(scheduler_->Reset(config), IsEmpty());
    cache_.emplace(config.page_tokens);
    answers_.clear();
  }

  static SequenceSpec Spec(uint64_t id, std::vector<int32_t> prompt, int32_t max_tokens) {
    SequenceSpec spec;
    spec.id = id;
    spec.prompt = std::move(prompt);
    spec.max_tokens = max_tokens;
    return spec;
  }
  absl::StatusOr<std::optional<uint64_t>> Add(SequenceSpec spec) {
    prompts_[spec.id] = spec.prompt;
    return scheduler_->Add(std::move(spec), now_);
  }
  absl::Status Add(uint64_t id, std::vector<int32_t> prompt, int32_t max_tokens, std::vector<int32_t> stop_ids = {}) {
    SequenceSpec spec = Spec(id, std::move(prompt), max_tokens);
    spec.stop_ids = std::move(stop_ids);
    return Add(std::move(spec)).status();
  }

  // Plans as many steps as may be in flight.
  int PlanAll() {
    int planned = 0;
    while (auto plan = scheduler_->PlanStep(now_)) {
      ++planned;
      CheckPlan(*plan);
      plans_.push_back(*plan);
      for (const PlannedSlice& slice : plan->slices) {
        // The tokens that travel in the frame are those known now.
        const Sequence& sequence = *scheduler_->Find(slice.sequence);
        sent_[{plan->step, slice.sequence}] = sequence.TokensOf(slice.position, slice.position + slice.count);
      }
    }
    return planned;
  }

  // What holds for every step.
  void CheckPlan(const StepPlan& plan) {
    int32_t tokens = 0;
    std::set<uint64_t> sequences;
    for (const PlannedSlice& slice : plan.slices) {
      tokens += slice.count;
      EXPECT_GE(slice.count, 1);
      EXPECT_TRUE(sequences.insert(slice.sequence).second) << "two slices of one sequence in a step";
      EXPECT_GE(static_cast<int32_t>(slice.pages.size()) * config_.page_tokens, slice.position + slice.count);
    }
    EXPECT_LE(tokens, config_.max_step_tokens);
    EXPECT_LE(static_cast<int32_t>(scheduler_->steps_in_flight()), config_.max_in_flight);
    CheckPages();
  }

  // No page that is written has two owners, none is lost.
  void CheckPages() {
    std::set<uint32_t> owned, shared;
    size_t count = 0;
    for (const auto& [id, prompt] : prompts_) {
      const Sequence* sequence = scheduler_->Find(id);
      if (sequence == nullptr) continue;
      const auto written = sequence->pages.begin() + sequence->indexed;
      shared.insert(sequence->pages.begin(), written);
      owned.insert(written, sequence->pages.end());
      count += static_cast<size_t>(sequence->pages.end() - written);
    }
    EXPECT_EQ(owned.size(), count) << "a page has two owners";
    for (uint32_t page : shared) EXPECT_EQ(owned.count(page), 0u) << "a page that others read is written";
    EXPECT_EQ(static_cast<int32_t>(owned.size() + shared.size()), scheduler_->pages_used());
    EXPECT_LE(scheduler_->pages_used() + scheduler_->pages_idle(), config_.num_pages);
    owned.merge(shared);
    for (uint32_t page : owned) EXPECT_LT(page, static_cast<uint32_t>(config_.num_pages));
  }

  // Executes the oldest step in flight, as every stage does, and reports it.
  void FinishStep() {
    const StepPlan plan = *scheduler_->oldest_in_flight();
    now_ += step_time_;
    for (const PlannedSlice& slice : plan.slices) now_ += token_time_ * slice.count;
    for (const PageCopy& copy : plan.copies) cache_->Copy(copy.from, copy.to);
    std::vector<std::vector<int32_t>> drawn(plan.slices.size());
    int32_t prefill = 0;
    for (size_t i = 0; i < plan.slices.size(); ++i) {
      const PlannedSlice& slice = plan.slices[i];
      const auto history = cache_->Run(slice.position, sent_.at({plan.step, slice.sequence}), slice.pages);
      drawn[i] = Draw(history, static_cast<int32_t>(slice.guesses.size()));
      if (!slice.decode) prefill += slice.count;
    }
    const std::vector<StageTime> stages(config_.num_stages, {.compute_s = 0.001 + prefill * prefill_token_s_});
    for (const SliceEvent& event : scheduler_->OnStepResult(drawn, stages, now_)) {
      std::vector<int32_t>& answer = answers_[event.sequence];
      answer.insert(answer.end(), drawn[event.slice].begin(), drawn[event.slice].begin() + event.tokens);
      if (event.finish == FinishReason::kNone) continue;
      results_[event.sequence] = std::move(answer);
      reasons_[event.sequence] = event.finish;
      ended_[event.sequence] = now_;
      scheduler_->Remove(event.sequence);
    }
    CheckPages();
  }

  void RunToEnd(int most_steps = 100000) {
    for (int i = 0; i < most_steps; ++i) {
      PlanAll();
      if (scheduler_->oldest_in_flight() == nullptr) {
        EXPECT_EQ(scheduler_->running() + scheduler_->waiting(), 0) << "stuck";
        EXPECT_EQ(scheduler_->pages_used(), 0);
        return;
      }
      FinishStep();
    }
    FAIL() << "not finished after " << most_steps << " steps";
  }

  SchedulerConfig config_;
  std::optional<Scheduler> scheduler_;
  std::optional<testing::FakeCache> cache_;
  Time now_;
  std::vector<StepPlan> plans_;
  std::map<std::pair<uint64_t, uint64_t>, std::vector<int32_t>> sent_;    // {step, sequence} to tokens
  std::map<uint64_t, std::vector<int32_t>> prompts_, answers_, results_;  // answers: so far
  std::map<uint64_t, FinishReason> reasons_;
  std::map<uint64_t, Time> ended_;
  // What the model draws.
  virtual std::vector<int32_t> Draw(std::span<const int32_t> history, int32_t guesses) {
    return testing::Draw(history, guesses);
  }

  // What the pipeline reports of its stages.
  double prefill_token_s_ = 0;
  // How long it takes from one step's end to the next.
  std::chrono::nanoseconds step_time_ = std::chrono::milliseconds(1);
  // More for each of its tokens.
  std::chrono::nanoseconds token_time_{0};
};

}  // namespace tandem::coordinator
