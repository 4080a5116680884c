// A stage that computes everything and then says a given text.
#pragma once

#include <sched.h>

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/stage.h"

namespace tandem::bench {

// Layers, head and sampler are those of the stage inside; of what the last one draws the tokens are then replaced by
// those of `text`, which begins with the prompt. So time is that of the kernels, and what guesses are right is a matter
// of the text, whatever the model knows.
class ReplayedStage : public engine::Stage {
 public:
  // `core`: the one that the step thread keeps to; -1: any.
  ReplayedStage(std::unique_ptr<engine::Stage> inside, std::vector<int32_t> text, int core)
      : inside_(std::move(inside)), text_(std::move(text)), core_(core) {}

  absl::Status Run(const engine::Step& step, engine::StepResult* result) override {
    if (!bound_ && core_ >= 0) {
      cpu_set_t cores;
      CPU_ZERO(&cores);
      CPU_SET(static_cast<size_t>(core_), &cores);
      if (sched_setaffinity(0, sizeof cores, &cores) != 0) {
        return absl::InvalidArgumentError(absl::StrCat("no core ", core_));
      }
      bound_ = true;
    }
    if (absl::Status status = inside_->Run(step, result); !status.ok() || !is_last()) return status;
    for (engine::SliceResult& slice : result->results) Replace(step.slices[slice.slice], &slice);
    return absl::OkStatus();
  }
  const engine::StageOptions& options() const override { return inside_->options(); }
  bool is_first() const override { return inside_->is_first(); }
  bool is_last() const override { return inside_->is_last(); }
  engine::StageMemory memory() const override { return inside_->memory(); }

 private:
  void Replace(const engine::Slice& slice, engine::SliceResult* result) const {
    if (slice.output != engine::SliceOutput::kSample) return;
    const engine::SampledToken drawn = result->sampled.front();
    result->sampled.clear();
    for (size_t at = slice.tokens.size() - static_cast<size_t>(slice.guesses) - 1; at < slice.tokens.size(); ++at) {
      engine::SampledToken& replaced = result->sampled.emplace_back(drawn);
      replaced.token = text_.at(static_cast<size_t>(slice.position) + at + 1);
      if (at + 1 < slice.tokens.size() && slice.tokens[at + 1] != replaced.token) break;
    }
  }

  const std::unique_ptr<engine::Stage> inside_;
  const std::vector<int32_t> text_;
  const int core_;
  bool bound_ = false;  // step thread only
};

}  // namespace tandem::bench
