#include "proto/support/engine_convert.h"

#include <limits>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"

namespace tandem::proto_support {
namespace {

constexpr uint32_t kMaxPenaltyWindow = 4096;  // bounds what a step carries of a sequence's past
constexpr uint32_t kMaxTopLogprobs = 64;      // of the protocol; the engine could give more
constexpr uint32_t kMaxInt32 = std::numeric_limits<int32_t>::max();

template <typename... Args>
absl::Status Bad(Args&&... args) {
  return absl::InvalidArgumentError(absl::StrCat(std::forward<Args>(args)...));
}

// Prefixes the message with the slice, keeping the code.
absl::Status InSlice(int slice, const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat("slice ", slice, ": ", status.message()));
}

// A repeated uint32 whose values were found to fit, as the engine's int32: same bits, and the standard lets signed and
// unsigned forms of a type alias.
std::span<const int32_t> AsInt32(const google::protobuf::RepeatedField<uint32_t>& values) {
  return {reinterpret_cast<const int32_t*>(values.data()), static_cast<size_t>(values.size())};
}

absl::Status CheckTokens(const char* field, const google::protobuf::RepeatedField<uint32_t>& tokens, int32_t vocab) {
  for (int i = 0; i < tokens.size(); ++i) {
    if (tokens[i] >= static_cast<uint32_t>(vocab)) {
      return Bad(field, "[", i, "] is ", tokens[i], ", the vocabulary has ", vocab);
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<engine::SliceOutput> OutputFromProto(v1::SliceOutput output) {
  switch (output) {
    case v1::SLICE_OUTPUT_NONE:
      return engine::SliceOutput::kNone;
    case v1::SLICE_OUTPUT_SAMPLE:
      return engine::SliceOutput::kSample;
    case v1::SLICE_OUTPUT_LOGITS:
      return engine::SliceOutput::kLogits;
    case v1::SLICE_OUTPUT_FIRST_STATE:
      return engine::SliceOutput::kFirstState;
    case v1::SLICE_OUTPUT_LAST_STATE:
      return engine::SliceOutput::kLastState;
    case v1::SLICE_OUTPUT_STATE_SUM:
      return engine::SliceOutput::kStateSum;
    default:
      return Bad("output is ", static_cast<int>(output), ", expected 1 to 6");
  }
}

absl::StatusOr<engine::Slice> SliceFromProto(const v1::Slice& slice, int32_t vocab, StepStorage* storage) {
  engine::Slice out;
  if (slice.position() > kMaxInt32) return Bad("position is ", slice.position(), ", limit ", kMaxInt32);
  out.position = static_cast<int32_t>(slice.position());
  if (slice.tokens().empty()) return Bad("tokens is empty, expected at least 1");
  TANDEM_RETURN_IF_ERROR(CheckTokens("tokens", slice.tokens(), vocab));
  out.tokens = AsInt32(slice.tokens());
  out.pages = {slice.pages().data(), static_cast<size_t>(slice.pages_size())};
  TANDEM_ASSIGN_OR_RETURN(out.output, OutputFromProto(slice.output()));
  if (out.output == engine::SliceOutput::kSample) {
    TANDEM_ASSIGN_OR_RETURN(engine::SamplingParams params, SamplingFromProto(slice.sampling(), vocab));
    storage->sampling.push_back(std::move(params));
    out.sampling = &storage->sampling.back();
    TANDEM_RETURN_IF_ERROR(CheckTokens("recent", slice.recent(), vocab));
    out.recent = AsInt32(slice.recent());
  }
  return out;
}

}  // namespace

absl::StatusOr<engine::SamplingParams> SamplingFromProto(const v1::Sampling& sampling, int32_t vocab_size) {
  if (sampling.top_k() > kMaxInt32) return Bad("top_k is ", sampling.top_k(), ", limit ", kMaxInt32);
  if (sampling.penalty_window() > kMaxPenaltyWindow) {
    return Bad("penalty_window is ", sampling.penalty_window(), ", limit ", kMaxPenaltyWindow);
  }
  if (sampling.top_logprobs() > kMaxTopLogprobs) {
    return Bad("top_logprobs is ", sampling.top_logprobs(), ", limit ", kMaxTopLogprobs);
  }
  engine::SamplingParams params;
  params.temperature = sampling.temperature();
  params.top_k = static_cast<int32_t>(sampling.top_k());
  if (sampling.has_top_p()) params.top_p = sampling.top_p();
  params.min_p = sampling.min_p();
  if (sampling.has_repetition_penalty()) params.repetition_penalty = sampling.repetition_penalty();
  params.presence_penalty = sampling.presence_penalty();
  params.frequency_penalty = sampling.frequency_penalty();
  if (sampling.has_penalty_window()) params.penalty_window = static_cast<int32_t>(sampling.penalty_window());
  params.seed = sampling.seed();
  if (sampling.has_top_logprobs()) params.top_logprobs = static_cast<int32_t>(sampling.top_logprobs());
  params.logit_bias.reserve(sampling.logit_bias_size());
  for (const v1::LogitBias& bias : sampling.logit_bias()) {
    if (bias.token() >= static_cast<uint32_t>(vocab_size)) {
      return Bad("logit_bias names token ", bias.token(), ", the vocabulary has ", vocab_size);
    }
    params.logit_bias.emplace_back(static_cast<int32_t>(bias.token()), bias.bias());
  }
  TANDEM_RETURN_IF_ERROR(engine::ValidateSampling(params, vocab_size));
  return params;
}

absl::StatusOr<engine::KvType> KvTypeFromProto(v1::KvType type) {
  switch (type) {
    case v1::KV_TYPE_F32:
      return engine::KvType::kF32;
    case v1::KV_TYPE_F16:
      return engine::KvType::kF16;
    default:
      return Bad("kv type is ", static_cast<int>(type), ", expected 1 (F32) or 2 (F16)");
  }
}

v1::KvType KvTypeToProto(engine::KvType type) {
  return type == engine::KvType::kF32 ? v1::KV_TYPE_F32 : v1::KV_TYPE_F16;
}

absl::StatusOr<engine::Step> StepFromFrame(const v1::StepFrame& frame, const engine::ModelSpec& spec, bool first_stage,
                                           StepStorage* storage) {
  if (frame.slices().empty()) return Bad("slices is empty, expected at least 1");
  engine::Step step;
  step.slices.reserve(frame.slices_size());
  storage->sampling.clear();
  storage->sampling.reserve(frame.slices_size());  // slices point into it: it must not move
  uint64_t tokens = 0;
  for (int i = 0; i < frame.slices_size(); ++i) {
    absl::StatusOr<engine::Slice> slice = SliceFromProto(frame.slices(i), spec.vocab, storage);
    if (!slice.ok()) return InSlice(i, slice.status());
    tokens += slice->tokens.size();
    step.slices.push_back(*slice);
  }
  const uint64_t bytes = frame.activations().size();
  if (first_stage) {
    if (bytes != 0) return Bad("activations has ", bytes, " bytes, the first stage takes none");
    return step;
  }
  if (frame.activation_type() != v1::ACTIVATION_TYPE_F32) {
    return Bad("activation_type is ", static_cast<int>(frame.activation_type()), ", expected 1 (F32)");
  }
  // tokens < 2^26 by the message limit and hidden < 2^31, so the product fits.
  const uint64_t expected = tokens * static_cast<uint64_t>(spec.hidden) * sizeof(float);
  if (bytes != expected) {
    return Bad("activations has ", bytes, " bytes, expected ", expected, " for ", tokens, " tokens of ", spec.hidden);
  }
  // A string's buffer is aligned for any scalar, and its bytes are floats by the check above.
  step.hidden = {reinterpret_cast<const float*>(frame.activations().data()), bytes / sizeof(float)};
  return step;
}

}  // namespace tandem::proto_support
