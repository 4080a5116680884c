// Stages and a draft model that take time instead of computing, so that many of them fit a machine of two cores.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "coordinator/draft/drafter.h"
#include "engine/stage.h"

namespace tandem::bench {

inline constexpr int32_t kDelayedVocab = 1000;
inline constexpr int32_t kDelayedHidden = 256;

// What is said after `token` at `position`: nothing that a text repeats.
inline int32_t NextToken(int32_t token, int32_t position) {
  uint64_t hash = static_cast<uint64_t>(token) * 0x9E3779B97F4A7C15u + static_cast<uint64_t>(position);
  hash = (hash ^ (hash >> 29)) * 0xBF58476D1CE4E5B9u;
  return static_cast<int32_t>((hash >> 33) % kDelayedVocab);
}

// What a model says behind `token`, which is at `position`.
using Draw = std::function<int32_t(int32_t token, int32_t position)>;

// Seconds for each layer: of a step, and of each of its tokens.
struct LayerDelay {
  double step_s = 0;
  double token_s = 0;
};

// `layers` layers of which each only sleeps. The token id travels in the first element of a hidden state, so that the
// last stage can draw.
class DelayedStage : public engine::Stage {
 public:
  DelayedStage(const engine::StageOptions& options, int32_t num_layers, LayerDelay delay, Draw draw = NextToken)
      : options_(options), num_layers_(num_layers), delay_(delay), draw_(std::move(draw)) {}

  absl::Status Run(const engine::Step& step, engine::StepResult* result) override {
    // A stage that was not idle goes on from when the step before was to end: sleeping takes longer than asked for.
    const auto now = std::chrono::steady_clock::now();
    const auto begin = now - end_ < std::chrono::milliseconds(2) ? end_ : now;
    std::vector<int32_t> tokens;
    for (const engine::Slice& slice : step.slices)
      tokens.insert(tokens.end(), slice.tokens.begin(), slice.tokens.end());
    for (size_t i = 0; !is_first() && i < tokens.size(); ++i) {
      tokens[i] = static_cast<int32_t>(step.hidden[i * kDelayedHidden]);
    }
    *result = engine::StepResult();
    if (is_last()) {
      DrawAll(step, tokens, result);
    } else {
      result->hidden.resize(tokens.size() * kDelayedHidden);
      for (size_t i = 0; i < tokens.size(); ++i) result->hidden[i * kDelayedHidden] = static_cast<float>(tokens[i]);
    }
    const double seconds = (options_.end_layer - options_.first_layer) *
                           (delay_.step_s + delay_.token_s * static_cast<double>(tokens.size()));
    end_ = begin + std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::duration<double>(seconds));
    std::this_thread::sleep_until(end_);
    return absl::OkStatus();
  }
  const engine::StageOptions& options() const override { return options_; }
  bool is_first() const override { return options_.first_layer == 0; }
  bool is_last() const override { return options_.end_layer == num_layers_; }
  engine::StageMemory memory() const override { return {}; }

 private:
  void DrawAll(const engine::Step& step, const std::vector<int32_t>& tokens, engine::StepResult* result) const {
    size_t end = 0;
    for (size_t i = 0; i < step.slices.size(); ++i) {
      const engine::Slice& slice = step.slices[i];
      const size_t first = end;
      end += slice.tokens.size();
      if (slice.output != engine::SliceOutput::kSample) continue;
      engine::SliceResult& out = result->results.emplace_back();
      out.slice = static_cast<int32_t>(i);
      for (size_t at = end - static_cast<size_t>(slice.guesses) - 1; at < end; ++at) {
        engine::SampledToken& drawn = out.sampled.emplace_back();
        drawn.token = draw_(tokens[at], slice.position + static_cast<int32_t>(at - first));
        if (at + 1 < end && tokens[at + 1] != drawn.token) break;
      }
    }
  }

  const engine::StageOptions options_;
  const int32_t num_layers_;
  const LayerDelay delay_;
  const Draw draw_;
  std::chrono::steady_clock::time_point end_;  // of the step before
};

// Takes `token_s` for each token, of which the share `right` is what the stages draw, the same ones in every run.
class DelayedDrafter : public coordinator::Drafter {
 public:
  DelayedDrafter(double right, double token_s) : right_(right), token_s_(token_s), thread_([this] { Run(); }) {}
  ~DelayedDrafter() override { Stop(); }

  void Draft(coordinator::DraftTask task, Done done) override {
    std::lock_guard<std::mutex> lock(mutex_);
    ++asked_;
    tasks_.emplace_back(std::move(task), std::move(done));
    wake_.notify_one();
  }
  void Stop() override {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      stopping_ = true;
      wake_.notify_one();
    }
    if (thread_.joinable()) thread_.join();
    for (auto& [task, done] : std::exchange(tasks_, {})) done({});
  }

 private:
  void Run() {
    while (true) {
      std::unique_lock<std::mutex> lock(mutex_);
      wake_.wait(lock, [this] { return stopping_ || !tasks_.empty(); });
      if (stopping_) return;
      auto [task, done] = std::move(tasks_.front());
      tasks_.pop_front();
      std::vector<int32_t> drafted;
      int32_t token = task.tokens.back();
      for (int32_t i = 0; i < task.count; ++i) {
        const int32_t position = static_cast<int32_t>(task.tokens.size()) - 1 + i;
        token = NextToken(token, position);
        if (NextToken(token, -position) >= right_ * kDelayedVocab) token = (token + 1) % kDelayedVocab;
        drafted.push_back(token);
      }
      // There is one sequence, so whatever is asked next makes this one void.
      const uint64_t asked = asked_;
      wake_.wait_for(lock, std::chrono::duration<double>(token_s_ * task.count),
                     [&] { return stopping_ || asked_ != asked; });
      lock.unlock();
      done(std::move(drafted));
    }
  }

  const double right_, token_s_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::pair<coordinator::DraftTask, Done>> tasks_;
  uint64_t asked_ = 0;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace tandem::bench
