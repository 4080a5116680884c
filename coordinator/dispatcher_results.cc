// The dispatcher's part that takes results from the last stage: checked, told to the scheduler, given to the listeners.
#include <utility>

#include "absl/strings/str_cat.h"
#include "coordinator/dispatcher.h"
#include "engine/base/status_macros.h"

namespace tandem::coordinator {
namespace {

// A text that is whole ends well, even where a limit was reached with its last token.
bool EndsByGuide(const DrawGuide& guide, FinishReason* finish) {
  if (guide.outlook() == DrawGuide::Outlook::kOpen) return false;
  *finish = guide.outlook() == DrawGuide::Outlook::kWhole ? FinishReason::kStop : FinishReason::kConstraint;
  return true;
}

}  // namespace

void Dispatcher::Handle(std::unique_ptr<v1::StepFrame> frame) {
  bytes_in_ += frame->ByteSizeLong();
  Lane* const lane = FindLane(frame->epoch());
  if (lane == nullptr) return;
  const StepPlan* due = lane->scheduler.oldest_in_flight();
  if (due == nullptr) {
    return Break(lane, absl::InternalError(
                           absl::StrCat("a frame came back for step ", frame->step(), ", but no step is in flight")));
  }
  const int32_t num_stages = lane->spec.num_stages;
  absl::StatusOr<std::vector<StepOutput>> outputs =
      DecodeFrame(*frame, *due, {.num_stages = num_stages, .vocab = options_.vocab, .hidden = options_.hidden});
  if (!outputs.ok()) return Break(lane, outputs.status());
  const StepPlan plan = *due;
  std::vector<std::vector<int32_t>> drawn(plan.slices.size());
  for (size_t i = 0; i < plan.slices.size(); ++i) {
    if (absl::Status status = CheckDrawn(*lane, plan.slices[i], (*outputs)[i]); !status.ok()) {
      return Break(lane, status);
    }
    for (const Drawn& each : (*outputs)[i].drawn) drawn[i].push_back(each.sampled.token);
  }
  std::vector<StageTime> stages(num_stages);
  for (const v1::StageTiming& timing : frame->timings()) {
    stages[timing.stage()] = {timing.queue_us() * 1e-6, timing.compute_us() * 1e-6, timing.wire_us() * 1e-6};
  }
  const std::vector<SliceEvent> events = lane->scheduler.OnStepResult(drawn, stages, clock_.Now());
  if (options_.observer != nullptr) reports_.push_back(Report(*lane, plan, std::move(stages)));
  Deliver(lane, plan, events, *outputs);
}

absl::Status Dispatcher::CheckDrawn(const Lane& lane, const PlannedSlice& slice, const StepOutput& output) const {
  // Of a sequence that gave up its pages since, or went to another pipeline, nothing counts.
  const Sequence* const sequence = lane.scheduler.Find(slice.sequence);
  const auto it = tasks_.find(slice.sequence);
  if (sequence == nullptr || sequence->incarnation != slice.incarnation || it == tasks_.end()) return absl::OkStatus();
  if (slice.output != engine::SliceOutput::kSample) return absl::OkStatus();
  const v1::Sampling& sampling = it->second.task.sampling;
  for (const Drawn& drawn : output.drawn) {
    if (sampling.has_top_logprobs() && !drawn.has_logprob) {
      return absl::InternalError("the last stage left out the log-probabilities that were asked for");
    }
    if (it->second.task.guide != nullptr && !it->second.task.guide->Allows(drawn.sampled.token)) {
      return absl::InternalError(
          absl::StrCat("the last stage drew token ", drawn.sampled.token, ", which was not allowed"));
    }
    if (sampling.mirostat() != 0 && !drawn.has_mirostat_mu) {
      return absl::InternalError("the last stage left out mirostat_mu");
    }
  }
  return absl::OkStatus();
}

void Dispatcher::Deliver(Lane* lane, const StepPlan& plan, const std::vector<SliceEvent>& events,
                         const std::vector<StepOutput>& outputs) {
  for (const SliceEvent& event : events) {
    auto it = tasks_.find(event.sequence);
    const Sequence* sequence = lane->scheduler.Find(event.sequence);
    if (it == tasks_.end() || sequence == nullptr) continue;
    const StepOutput& output = outputs[event.slice];
    bool go_on = true;
    FinishReason finish = FinishReason::kStop;  // if it does not go on
    if (it->second.task.output != engine::SliceOutput::kSample) {
      DeliverOutput(plan.slices[event.slice], output, &it->second);
    } else {
      if (options_.observer != nullptr && sequence->generated_tokens() == event.tokens) {
        options_.observer->OnFirstToken(SecondsBetween(sequence->arrival, sequence->first_token));
      }
      int32_t delivered = 0;
      absl::Status status;
      while (go_on && status.ok() && delivered < event.tokens) {
        status = DeliverToken(output.drawn[delivered++].sampled, &it->second, &go_on, &finish);
      }
      if (!status.ok()) {
        End(event.sequence, status);
        continue;
      }
      if (!go_on) lane->scheduler.Finish(event.sequence, finish, /*unwanted=*/event.tokens - delivered);
    }
    if (!go_on || event.finish != FinishReason::kNone) {
      End(event.sequence, absl::OkStatus());
    } else {
      told_tokens_.push_back(event.sequence);
    }
  }
}

absl::Status Dispatcher::DeliverToken(const engine::SampledToken& token, Task* task, bool* go_on,
                                      FinishReason* finish) {
  *go_on = task->listener->OnToken(token);
  if (!*go_on || task->task.guide == nullptr) return absl::OkStatus();
  TANDEM_RETURN_IF_ERROR(task->task.guide->Append(token));
  *go_on = !EndsByGuide(*task->task.guide, finish);
  return absl::OkStatus();
}

void Dispatcher::DeliverOutput(const PlannedSlice& slice, const StepOutput& output, Task* task) {
  if (slice.output == engine::SliceOutput::kLogits) {
    DeliverLogits(slice, output.logits, task);
  } else if (slice.output == engine::SliceOutput::kStateSum) {
    task->listener->OnStateSum(slice.position, output.state_sum);
  } else {
    task->listener->OnState(output.state);
  }
}

void Dispatcher::DeliverLogits(const PlannedSlice& slice, std::span<const float> logits, Task* task) {
  for (int32_t i = 0; i < slice.count; ++i) {
    if (slice.position + i < task->logits_delivered) continue;
    task->listener->OnLogits(slice.position + i, logits.subspan(size_t(i) * options_.vocab, options_.vocab));
    task->logits_delivered = slice.position + i + 1;
  }
}

}  // namespace tandem::coordinator
