#include "coordinator/step_codec.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"

namespace tandem::coordinator {
namespace {

// v1.Sampling.top_logprobs, its upper bound.
constexpr int kMaxTopLogprobs = 64;

v1::SliceOutput OutputToProto(engine::SliceOutput output) {
  switch (output) {
    case engine::SliceOutput::kNone:
      return v1::SLICE_OUTPUT_NONE;
    case engine::SliceOutput::kSample:
      return v1::SLICE_OUTPUT_SAMPLE;
    case engine::SliceOutput::kLogits:
      return v1::SLICE_OUTPUT_LOGITS;
  }
  return v1::SLICE_OUTPUT_UNSPECIFIED;
}

template <typename... Parts>
absl::Status Lie(const v1::StepFrame& frame, const Parts&... what) {
  return absl::InternalError(
      absl::StrCat("the last stage returned a wrong frame (step ", frame.step(), "): ", what...));
}

absl::Status CheckTimings(const v1::StepFrame& frame, int32_t num_stages) {
  if (frame.timings_size() > num_stages) {
    return Lie(frame, frame.timings_size(), " timings of ", num_stages, " stages");
  }
  for (const v1::StageTiming& timing : frame.timings()) {
    if (timing.stage() >= static_cast<uint32_t>(num_stages)) {
      return Lie(frame, "timing of stage ", timing.stage(), " of ", num_stages);
    }
  }
  return absl::OkStatus();
}

absl::Status DecodeSample(const v1::StepFrame& frame, const v1::SliceResult& result, int32_t vocab,
                          StepOutput* output) {
  if (result.token() >= static_cast<uint32_t>(vocab)) {
    return Lie(frame, "token ", result.token(), " of a vocabulary of ", vocab);
  }
  output->sampled.token = static_cast<int32_t>(result.token());
  output->has_logprob = result.has_logprob();
  output->sampled.logprob = result.logprob();
  if (std::isnan(result.logprob())) return Lie(frame, "the log-probability is not a number");
  if (result.top_size() > kMaxTopLogprobs) {
    return Lie(frame, result.top_size(), " log-probabilities, at most ", kMaxTopLogprobs);
  }
  for (const v1::TokenLogprob& top : result.top()) {
    if (top.token() >= static_cast<uint32_t>(vocab) || std::isnan(top.logprob())) {
      return Lie(frame, "log-probability ", top.logprob(), " of token ", top.token());
    }
    output->sampled.top.push_back({static_cast<int32_t>(top.token()), top.logprob()});
  }
  return absl::OkStatus();
}

absl::Status DecodeLogits(const v1::StepFrame& frame, const v1::SliceResult& result, int64_t count,
                          StepOutput* output) {
  if (result.logits().size() != count * sizeof(float)) {
    return Lie(frame, result.logits().size(), " bytes of logits instead of ", count * sizeof(float));
  }
  output->logits.resize(count);
  std::memcpy(output->logits.data(), result.logits().data(), result.logits().size());
  return absl::OkStatus();
}

}  // namespace

void AppendSlice(const PlannedSlice& planned, const Sequence& sequence, const v1::Sampling& sampling,
                 int32_t penalty_window, v1::StepFrame* frame) {
  v1::Slice* slice = frame->add_slices();
  slice->set_sequence(planned.sequence);
  slice->set_position(planned.position);
  const auto begin = sequence.tokens.begin() + planned.position;
  const auto end = begin + planned.count;
  slice->mutable_tokens()->Add(begin, end);
  slice->mutable_pages()->Add(planned.pages.begin(), planned.pages.end());
  slice->set_output(OutputToProto(planned.output));
  if (planned.output != engine::SliceOutput::kSample) return;
  *slice->mutable_sampling() = sampling;
  const int32_t seen = std::min(penalty_window, planned.position + planned.count);
  slice->mutable_recent()->Add(end - seen, end);
}

absl::StatusOr<std::vector<StepOutput>> DecodeFrame(const v1::StepFrame& frame, const StepPlan& plan,
                                                    int32_t num_stages, int32_t vocab) {
  if (frame.step() != plan.step) return Lie(frame, "step ", plan.step, " was due");
  TANDEM_RETURN_IF_ERROR(CheckTimings(frame, num_stages));
  if (frame.has_failure()) {
    const v1::StepFailure& failure = frame.failure();
    const auto code = static_cast<absl::StatusCode>(failure.code());
    return absl::Status(code == absl::StatusCode::kOk ? absl::StatusCode::kUnknown : code,
                        absl::StrCat("stage ", failure.stage(), " failed: ", failure.message()));
  }
  std::vector<StepOutput> outputs(plan.slices.size());
  int next = 0;
  for (size_t i = 0; i < plan.slices.size(); ++i) {
    const PlannedSlice& slice = plan.slices[i];
    if (slice.output == engine::SliceOutput::kNone) continue;
    if (next >= frame.results_size()) return Lie(frame, "no result for sequence ", slice.sequence);
    const v1::SliceResult& result = frame.results(next++);
    if (result.sequence() != slice.sequence) {
      return Lie(frame, "a result for sequence ", result.sequence(), " where ", slice.sequence, " was due");
    }
    if (slice.output == engine::SliceOutput::kSample) {
      TANDEM_RETURN_IF_ERROR(DecodeSample(frame, result, vocab, &outputs[i]));
    } else {
      TANDEM_RETURN_IF_ERROR(DecodeLogits(frame, result, int64_t{slice.count} * vocab, &outputs[i]));
    }
  }
  if (next != frame.results_size()) return Lie(frame, frame.results_size(), " results, ", next, " were asked for");
  return outputs;
}

}  // namespace tandem::coordinator
