// A pipeline of one thread that answers steps with the fake model, behind the link that the dispatcher sends to.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "coordinator/dispatcher.h"
#include "links/step_link.h"
#include "tests/coordinator/fake_model.h"

namespace tandem::coordinator::testing {

// Executes frames in order on its own thread and hands the results to `answer`. While held, frames wait. `spoil` may
// change a result frame before it is handed over. Thread-safe.
class FakePipeline {
 public:
  using Spoil = std::function<void(const v1::StepFrame& request, v1::StepFrame* result)>;

  FakePipeline(int32_t page_tokens, links::FrameHandler answer, Spoil spoil = nullptr)
      : cache_(page_tokens), answer_(std::move(answer)), spoil_(std::move(spoil)), thread_([this] { Run(); }) {}
  ~FakePipeline() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_all();
    thread_.join();
  }

  std::unique_ptr<links::StepLink> Link() { return std::make_unique<FakeLink>(this); }
  void Hold() {
    std::lock_guard<std::mutex> lock(mutex_);
    held_ = true;
  }
  void Go() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      held_ = false;
    }
    wake_.notify_all();
  }
  // Until `count` frames were sent to it since it began.
  void WaitForFrames(int count) {
    std::unique_lock<std::mutex> lock(mutex_);
    wake_.wait(lock, [&] { return received_ >= count; });
  }
  // Frames that were sent to it.
  int received() {
    std::lock_guard<std::mutex> lock(mutex_);
    return received_;
  }
  // From now on Send fails.
  void BreakLink() {
    std::lock_guard<std::mutex> lock(mutex_);
    broken_ = true;
  }
  bool closed() {
    std::lock_guard<std::mutex> lock(mutex_);
    return closed_;
  }

 private:
  class FakeLink : public links::StepLink {
   public:
    explicit FakeLink(FakePipeline* pipeline) : pipeline_(pipeline) {}
    absl::Status Send(std::unique_ptr<v1::StepFrame> frame) override { return pipeline_->Take(std::move(frame)); }
    void Close() override {
      std::lock_guard<std::mutex> lock(pipeline_->mutex_);
      pipeline_->closed_ = true;
    }
    links::LinkStats stats() const override { return {}; }

   private:
    FakePipeline* pipeline_;
  };

  absl::Status Take(std::unique_ptr<v1::StepFrame> frame) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      if (broken_) return absl::UnavailableError("the fake link is broken");
      frames_.push_back(std::move(frame));
      ++received_;
    }
    wake_.notify_all();
    return absl::OkStatus();
  }

  void Run() {
    while (true) {
      std::unique_ptr<v1::StepFrame> frame;
      {
        std::unique_lock<std::mutex> lock(mutex_);
        wake_.wait(lock, [&] { return stopping_ || (!held_ && !frames_.empty()); });
        if (stopping_) return;
        frame = std::move(frames_.front());
        frames_.pop_front();
      }
      auto result = std::make_unique<v1::StepFrame>(Execute(*frame));
      if (spoil_) spoil_(*frame, result.get());
      answer_(std::move(result));
    }
  }

  v1::StepFrame Execute(const v1::StepFrame& frame) {
    v1::StepFrame result;
    result.set_epoch(frame.epoch());
    result.set_step(frame.step());
    v1::StageTiming* timing = result.add_timings();
    timing->set_queue_us(100);
    timing->set_compute_us(2000);
    for (const v1::PageCopy& copy : frame.copies()) cache_.Copy(copy.from(), copy.to());
    for (const v1::Slice& slice : frame.slices()) {
      const std::vector<int32_t> tokens(slice.tokens().begin(), slice.tokens().end());
      const std::vector<uint32_t> pages(slice.pages().begin(), slice.pages().end());
      const std::vector<int32_t> history = cache_.Run(static_cast<int32_t>(slice.position()), tokens, pages);
      if (slice.output() == v1::SLICE_OUTPUT_NONE) continue;
      v1::SliceResult* out = result.add_results();
      out->set_sequence(slice.sequence());
      if (slice.output() == v1::SLICE_OUTPUT_LOGITS) {
        // Row i is filled with the token at its position.
        std::vector<float> logits;
        for (int32_t token : tokens) logits.insert(logits.end(), kFakeVocab, static_cast<float>(token));
        out->set_logits(std::string(reinterpret_cast<const char*>(logits.data()), logits.size() * sizeof(float)));
        continue;
      }
      if (slice.output() != v1::SLICE_OUTPUT_SAMPLE) {
        PutStates(slice, out);
        continue;
      }
      for (const int32_t token : Draw(history, static_cast<int32_t>(slice.guesses()))) {
        v1::Draw* draw = out->add_draws();
        draw->set_token(static_cast<uint32_t>(token));
        if (slice.sampling().has_top_logprobs()) draw->set_logprob(-0.5f);
        for (uint32_t i = 0; i < slice.sampling().top_logprobs(); ++i) {
          v1::TokenLogprob* top = draw->add_top();
          top->set_token(i);
          top->set_logprob(-1.0f * static_cast<float>(i));
        }
      }
    }
    return result;
  }

  static void PutStates(const v1::Slice& slice, v1::SliceResult* out) {
    const uint32_t token = slice.output() == v1::SLICE_OUTPUT_FIRST_STATE ? slice.tokens(0) : *slice.tokens().rbegin();
    const std::vector<float> state(kFakeHidden, static_cast<float>(token));
    int64_t total = 0;
    for (uint32_t each : slice.tokens()) total += int64_t{each} << engine::kStateSumBits;
    const std::vector<int64_t> sum(kFakeHidden, total);
    if (slice.output() == v1::SLICE_OUTPUT_STATE_SUM) {
      out->set_state_sum(sum.data(), sum.size() * sizeof(int64_t));
    } else {
      out->set_state(state.data(), state.size() * sizeof(float));
    }
  }

  FakeCache cache_;  // step thread only
  const links::FrameHandler answer_;
  const Spoil spoil_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::unique_ptr<v1::StepFrame>> frames_;
  int received_ = 0;
  bool held_ = false, broken_ = false, closed_ = false, stopping_ = false;
  std::thread thread_;
};

// Time that a test moves by hand. Thread-safe.
class ManualClock : public Clock {
 public:
  Time Now() const override { return Time(std::chrono::nanoseconds(now_ns_.load())); }
  void Advance(std::chrono::nanoseconds by) { now_ns_ += by.count(); }

 private:
  std::atomic<int64_t> now_ns_{0};
};

}  // namespace tandem::coordinator::testing
