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
    case engine::SliceOutput::kFirstState:
      return v1::SLICE_OUTPUT_FIRST_STATE;
    case engine::SliceOutput::kLastState:
      return v1::SLICE_OUTPUT_LAST_STATE;
    case engine::SliceOutput::kStateSum:
      return v1::SLICE_OUTPUT_STATE_SUM;
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

absl::StatusOr<Drawn> DecodeDraw(const v1::StepFrame& frame, const v1::Draw& draw, int32_t vocab) {
  if (draw.token() >= static_cast<uint32_t>(vocab)) {
    return Lie(frame, "token ", draw.token(), " of a vocabulary of ", vocab);
  }
  Drawn drawn;
  drawn.sampled.token = static_cast<int32_t>(draw.token());
  drawn.has_mirostat_mu = draw.has_mirostat_mu();
  drawn.sampled.mirostat_mu = draw.mirostat_mu();
  if (!(std::fabs(draw.mirostat_mu()) <= engine::kMaxMirostatMu)) {
    return Lie(frame, "mirostat_mu is ", draw.mirostat_mu());
  }
  drawn.has_logprob = draw.has_logprob();
  drawn.sampled.logprob = draw.logprob();
  if (std::isnan(draw.logprob())) return Lie(frame, "the log-probability is not a number");
  if (draw.top_size() > kMaxTopLogprobs) {
    return Lie(frame, draw.top_size(), " log-probabilities, at most ", kMaxTopLogprobs);
  }
  for (const v1::TokenLogprob& top : draw.top()) {
    if (top.token() >= static_cast<uint32_t>(vocab) || std::isnan(top.logprob())) {
      return Lie(frame, "log-probability ", top.logprob(), " of token ", top.token());
    }
    drawn.sampled.top.push_back({static_cast<int32_t>(top.token()), top.logprob()});
  }
  return drawn;
}

absl::Status DecodeSample(const v1::StepFrame& frame, const v1::SliceResult& result, std::span<const int32_t> guesses,
                          int32_t vocab, StepOutput* output) {
  for (const v1::Draw& draw : result.draws()) {
    TANDEM_ASSIGN_OR_RETURN(output->drawn.emplace_back(), DecodeDraw(frame, draw, vocab));
  }
  size_t due = 1;  // draws: one, and one behind each right guess
  for (size_t i = 0; i < guesses.size() && i < output->drawn.size(); ++i) {
    if (output->drawn[i].sampled.token != guesses[i]) break;
    ++due;
  }
  if (output->drawn.size() == due) return absl::OkStatus();
  return Lie(frame, output->drawn.size(), " draws where ", due, " were due, with ", guesses.size(), " guesses");
}

template <typename T>
absl::Status DecodeNumbers(const v1::StepFrame& frame, absl::string_view what, const std::string& bytes, int64_t count,
                           std::vector<T>* out) {
  if (bytes.size() != count * sizeof(T)) {
    return Lie(frame, bytes.size(), " bytes of ", what, " instead of ", count * sizeof(T));
  }
  out->resize(count);
  std::memcpy(out->data(), bytes.data(), bytes.size());
  return absl::OkStatus();
}

absl::Status DecodeState(const v1::StepFrame& frame, const v1::SliceResult& result, int32_t hidden,
                         StepOutput* output) {
  TANDEM_RETURN_IF_ERROR(DecodeNumbers(frame, "state", result.state(), hidden, &output->state));
  for (float value : output->state) {
    if (!std::isfinite(value)) return Lie(frame, "a value of the state is ", value);
  }
  return absl::OkStatus();
}

absl::Status DecodeStateSum(const v1::StepFrame& frame, const v1::SliceResult& result, int32_t count, int32_t hidden,
                            StepOutput* output) {
  TANDEM_RETURN_IF_ERROR(DecodeNumbers(frame, "state_sum", result.state_sum(), hidden, &output->state_sum));
  // Within this the sums of all slices of a sequence fit an int64.
  const int64_t most = ((static_cast<int64_t>(engine::kMaxSummedState) << engine::kStateSumBits) - 1) * count;
  for (int64_t value : output->state_sum) {
    if (value < -most || value > most) return Lie(frame, "a sum of ", count, " states is ", value);
  }
  return absl::OkStatus();
}

absl::Status DecodeResult(const v1::StepFrame& frame, const PlannedSlice& slice, const v1::SliceResult& result,
                          const PipelineShape& shape, StepOutput* output) {
  switch (slice.output) {
    case engine::SliceOutput::kSample:
      return DecodeSample(frame, result, slice.guesses, shape.vocab, output);
    case engine::SliceOutput::kLogits:
      return DecodeNumbers(frame, "logits", result.logits(), int64_t{slice.count} * shape.vocab, &output->logits);
    case engine::SliceOutput::kFirstState:
    case engine::SliceOutput::kLastState:
      return DecodeState(frame, result, shape.hidden, output);
    case engine::SliceOutput::kStateSum:
      return DecodeStateSum(frame, result, slice.count, shape.hidden, output);
    case engine::SliceOutput::kNone:
      break;
  }
  return absl::OkStatus();
}

}  // namespace

v1::Slice* AppendSlice(const PlannedSlice& planned, const Sequence& sequence, const v1::Sampling& sampling,
                       int32_t penalty_window, std::span<const engine::AdapterUse> adapters, v1::StepFrame* frame) {
  v1::Slice* slice = frame->add_slices();
  slice->set_sequence(planned.sequence);
  slice->set_position(planned.position);
  const int32_t guesses = static_cast<int32_t>(planned.guesses.size());
  const int32_t end = planned.position + planned.count;
  const std::vector<int32_t> tokens = sequence.TokensOf(planned.position, end);
  slice->mutable_tokens()->Add(tokens.begin(), tokens.end());
  slice->set_guesses(static_cast<uint32_t>(guesses));
  slice->mutable_pages()->Add(planned.pages.begin(), planned.pages.end());
  slice->set_output(OutputToProto(planned.output));
  for (const engine::AdapterUse& use : adapters) {
    v1::SliceAdapter* adapter = slice->add_adapters();
    adapter->set_adapter(static_cast<uint32_t>(use.adapter));
    adapter->set_scale(use.scale);
  }
  if (planned.output != engine::SliceOutput::kSample) return slice;
  *slice->mutable_sampling() = sampling;
  slice->set_dropped(static_cast<uint64_t>(sequence.dropped));
  if (penalty_window > 0) {
    const std::vector<int32_t> recent = sequence.TokensOf(std::max(0, end - guesses - penalty_window), end);
    slice->mutable_recent()->Add(recent.begin(), recent.end());
  }
  return slice;
}

absl::StatusOr<std::vector<StepOutput>> DecodeFrame(const v1::StepFrame& frame, const StepPlan& plan,
                                                    const PipelineShape& shape) {
  if (frame.step() != plan.step) return Lie(frame, "step ", plan.step, " was due");
  TANDEM_RETURN_IF_ERROR(CheckTimings(frame, shape.num_stages));
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
    TANDEM_RETURN_IF_ERROR(DecodeResult(frame, slice, result, shape, &outputs[i]));
  }
  if (next != frame.results_size()) return Lie(frame, frame.results_size(), " results, ", next, " were asked for");
  return outputs;
}

}  // namespace tandem::coordinator
