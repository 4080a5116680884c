#include "proto/support/engine_convert.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/quant/activation_format.h"

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

// Bit t % 64 of word t / 64 is token t, as engine::DrawState has it. Ids must be in range.
absl::Status ListToWords(const char* field, const v1::TokenList& list, int32_t vocab, std::vector<uint64_t>* words) {
  TANDEM_RETURN_IF_ERROR(CheckTokens(field, list.ids(), vocab));
  for (int i = 0; i < list.ids_size(); ++i) {
    if (i > 0 && list.ids(i) <= list.ids(i - 1)) {
      return Bad(field, "[", i, "] is ", list.ids(i), " after ", list.ids(i - 1), "; ids must ascend");
    }
    (*words)[list.ids(i) / 64] |= uint64_t{1} << (list.ids(i) % 64);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<uint64_t>> WordsFromProto(const v1::TokenSet& set, int32_t vocab) {
  const size_t count = static_cast<size_t>(vocab);
  std::vector<uint64_t> words((count + 63) / 64, 0);
  switch (set.form_case()) {
    case v1::TokenSet::kOnly:
      TANDEM_RETURN_IF_ERROR(ListToWords("allowed.only", set.only(), vocab, &words));
      return words;
    case v1::TokenSet::kAllBut:
      TANDEM_RETURN_IF_ERROR(ListToWords("allowed.all_but", set.all_but(), vocab, &words));
      for (uint64_t& word : words) word = ~word;
      if (count % 64 != 0) words.back() &= (uint64_t{1} << (count % 64)) - 1;
      return words;
    case v1::TokenSet::kBits: {
      const std::string& bits = set.bits();
      if (bits.size() != (count + 7) / 8) {
        return Bad("allowed.bits has ", bits.size(), " bytes, expected ", (count + 7) / 8, " for ", vocab, " tokens");
      }
      std::memcpy(words.data(), bits.data(), bits.size());  // little-endian, as GgufFile requires of the machine
      return words;
    }
    case v1::TokenSet::FORM_NOT_SET:
      break;
  }
  return Bad("allowed is set but has no form");
}

absl::Status DrawStateFromProto(const v1::Slice& slice, int32_t vocab, StepStorage* storage, engine::DrawState* draw) {
  TANDEM_RETURN_IF_ERROR(CheckTokens("recent", slice.recent(), vocab));
  draw->recent = AsInt32(slice.recent());
  draw->mirostat_mu = slice.mirostat_mu();
  draw->dropped = slice.dropped();
  if (!slice.dry().empty()) {
    auto& dry = storage->dry.emplace_back();
    for (const v1::DryPenalty& entry : slice.dry()) {
      if (entry.token() >= static_cast<uint32_t>(vocab)) {
        return Bad("dry names token ", entry.token(), ", the vocabulary has ", vocab);
      }
      dry.emplace_back(static_cast<int32_t>(entry.token()), entry.penalty());
    }
    draw->dry = dry;
  }
  if (slice.has_allowed()) {
    TANDEM_ASSIGN_OR_RETURN(std::vector<uint64_t> words, WordsFromProto(slice.allowed(), vocab));
    storage->allowed.push_back(std::move(words));
    draw->allowed = storage->allowed.back();
  }
  return engine::ValidateDrawState(*draw, vocab);
}

// `storage` has room for them.
absl::Status AdaptersFromProto(const v1::Slice& slice, StepStorage* storage, engine::Slice* out) {
  const size_t first = storage->adapters.size();
  for (const v1::SliceAdapter& adapter : slice.adapters()) {
    if (adapter.adapter() > kMaxInt32) return Bad("adapter is ", adapter.adapter(), ", limit ", kMaxInt32);
    storage->adapters.push_back({.adapter = static_cast<int32_t>(adapter.adapter()), .scale = adapter.scale()});
  }
  out->adapters = std::span(storage->adapters).subspan(first);
  return absl::OkStatus();
}

// `count` tokens of spec.hidden values: in place if they are floats already, else converted into `storage`.
absl::StatusOr<std::span<const float>> HiddenFromFrame(const v1::StepFrame& frame, const engine::ModelSpec& spec,
                                                       uint64_t tokens, StepStorage* storage) {
  TANDEM_ASSIGN_OR_RETURN(const engine::TensorType type, ActivationTypeFromProto(frame.activation_type()));
  TANDEM_RETURN_IF_ERROR(engine::CheckActivationType(type, spec.hidden));
  // tokens < 2^26 by the message limit and hidden < 2^31, so the products fit.
  const uint64_t count = tokens * static_cast<uint64_t>(spec.hidden);
  const uint64_t bytes = frame.activations().size(), expected = engine::ActivationBytes(type, count);
  if (bytes != expected) {
    return Bad("activations has ", bytes, " bytes, expected ", expected, " for ", tokens, " tokens of ", spec.hidden,
               " as ", engine::ActivationTypeName(type));
  }
  const char* data = frame.activations().data();
  // A string's buffer is aligned for any scalar, and its bytes are floats by the check above.
  if (type == engine::TensorType::kF32) return std::span(reinterpret_cast<const float*>(data), count);
  storage->hidden.resize(count);
  engine::UnpackActivations(type, reinterpret_cast<const std::byte*>(data), storage->hidden);
  return storage->hidden;
}

absl::StatusOr<engine::Slice> SliceFromProto(const v1::Slice& slice, int32_t vocab, StepStorage* storage) {
  engine::Slice out;
  if (slice.position() > kMaxInt32) return Bad("position is ", slice.position(), ", limit ", kMaxInt32);
  out.position = static_cast<int32_t>(slice.position());
  if (slice.tokens().empty()) return Bad("tokens is empty, expected at least 1");
  TANDEM_RETURN_IF_ERROR(CheckTokens("tokens", slice.tokens(), vocab));
  out.tokens = AsInt32(slice.tokens());
  out.pages = {slice.pages().data(), static_cast<size_t>(slice.pages_size())};
  TANDEM_RETURN_IF_ERROR(AdaptersFromProto(slice, storage, &out));
  TANDEM_ASSIGN_OR_RETURN(out.output, OutputFromProto(slice.output()));
  if (slice.guesses() > kMaxInt32) return Bad("guesses is ", slice.guesses(), ", limit ", kMaxInt32);
  out.guesses = static_cast<int32_t>(slice.guesses());
  if (out.output == engine::SliceOutput::kSample) {
    TANDEM_ASSIGN_OR_RETURN(engine::SamplingParams params, SamplingFromProto(slice.sampling(), vocab));
    storage->sampling.push_back(std::move(params));
    out.sampling = &storage->sampling.back();
    TANDEM_RETURN_IF_ERROR(DrawStateFromProto(slice, vocab, storage, &out.draw));
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
  if (sampling.has_typical_p()) params.typical_p = sampling.typical_p();
  params.top_n_sigma = sampling.top_n_sigma();
  params.xtc_probability = sampling.xtc_probability();
  if (sampling.has_xtc_threshold()) params.xtc_threshold = sampling.xtc_threshold();
  params.mirostat = static_cast<int32_t>(std::min(sampling.mirostat(), kMaxInt32));
  if (sampling.has_mirostat_tau()) params.mirostat_tau = sampling.mirostat_tau();
  if (sampling.has_mirostat_eta()) params.mirostat_eta = sampling.mirostat_eta();
  if (sampling.filters_size() > engine::kNumFilters) {
    return Bad("filters has ", sampling.filters_size(), " entries, limit ", engine::kNumFilters);
  }
  for (const int filter : sampling.filters()) {
    if (filter < 1 || filter > engine::kNumFilters) {
      return Bad("filters has the number ", filter, ", expected 1 to ", engine::kNumFilters);
    }
    params.filters.push_back(static_cast<engine::Filter>(filter - 1));
  }
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

absl::StatusOr<engine::DryParams> DryFromProto(const v1::Dry& dry) {
  engine::DryParams params;
  params.multiplier = dry.multiplier();
  if (dry.has_base()) params.base = dry.base();
  if (dry.has_allowed_length()) params.allowed_length = static_cast<int32_t>(std::min(dry.allowed_length(), kMaxInt32));
  if (dry.has_window()) params.window = static_cast<int32_t>(std::min(dry.window(), kMaxInt32));
  if (dry.no_breakers() || !dry.breakers().empty())
    params.breakers.assign(dry.breakers().begin(), dry.breakers().end());
  if (dry.no_breakers() && !dry.breakers().empty()) return Bad("dry.no_breakers is set, but dry.breakers has entries");
  TANDEM_RETURN_IF_ERROR(engine::ValidateDry(params));
  return params;
}

absl::StatusOr<engine::KvType> KvTypeFromProto(v1::KvType type) {
  switch (type) {
    case v1::KV_TYPE_F32:
      return engine::KvType::kF32;
    case v1::KV_TYPE_F16:
      return engine::KvType::kF16;
    case v1::KV_TYPE_BF16:
      return engine::KvType::kBF16;
    case v1::KV_TYPE_Q8_0:
      return engine::KvType::kQ8_0;
    case v1::KV_TYPE_Q4_0:
      return engine::KvType::kQ4_0;
    default:
      return Bad("kv type is ", static_cast<int>(type), ", expected 1 (F32), 2 (F16), 3 (BF16), 4 (Q8_0) or 5 (Q4_0)");
  }
}

v1::KvType KvTypeToProto(engine::KvType type) {
  switch (type) {
    case engine::KvType::kF32:
      return v1::KV_TYPE_F32;
    case engine::KvType::kF16:
      return v1::KV_TYPE_F16;
    case engine::KvType::kBF16:
      return v1::KV_TYPE_BF16;
    case engine::KvType::kQ8_0:
      return v1::KV_TYPE_Q8_0;
    case engine::KvType::kQ4_0:
      return v1::KV_TYPE_Q4_0;
  }
  return v1::KV_TYPE_UNSPECIFIED;
}

absl::StatusOr<engine::TensorType> ActivationTypeFromProto(v1::ActivationType type) {
  switch (type) {
    case v1::ACTIVATION_TYPE_F32:
      return engine::TensorType::kF32;
    case v1::ACTIVATION_TYPE_F16:
      return engine::TensorType::kF16;
    case v1::ACTIVATION_TYPE_BF16:
      return engine::TensorType::kBF16;
    case v1::ACTIVATION_TYPE_Q8_0:
      return engine::TensorType::kQ8_0;
    default:
      return Bad("activation_type is ", static_cast<int>(type), ", expected 1 (F32), 2 (F16), 3 (BF16) or 4 (Q8_0)");
  }
}

v1::ActivationType ActivationTypeToProto(engine::TensorType type) {
  switch (type) {
    case engine::TensorType::kF32:
      return v1::ACTIVATION_TYPE_F32;
    case engine::TensorType::kF16:
      return v1::ACTIVATION_TYPE_F16;
    case engine::TensorType::kBF16:
      return v1::ACTIVATION_TYPE_BF16;
    case engine::TensorType::kQ8_0:
      return v1::ACTIVATION_TYPE_Q8_0;
    default:
      return v1::ACTIVATION_TYPE_UNSPECIFIED;
  }
}

absl::StatusOr<engine::Step> StepFromFrame(const v1::StepFrame& frame, const engine::ModelSpec& spec, bool first_stage,
                                           StepStorage* storage) {
  if (frame.slices().empty()) return Bad("slices is empty, expected at least 1");
  engine::Step step;
  for (const v1::PageCopy& copy : frame.copies()) step.copies.push_back({copy.from(), copy.to()});
  step.slices.reserve(frame.slices_size());
  storage->sampling.clear();
  storage->sampling.reserve(frame.slices_size());  // slices point into these: they must not move
  storage->dry.clear();
  storage->dry.reserve(frame.slices_size());
  storage->allowed.clear();
  storage->allowed.reserve(frame.slices_size());
  size_t adapters = 0;
  for (const v1::Slice& slice : frame.slices()) adapters += slice.adapters_size();
  storage->adapters.clear();
  storage->adapters.reserve(adapters);
  uint64_t tokens = 0;
  for (int i = 0; i < frame.slices_size(); ++i) {
    absl::StatusOr<engine::Slice> slice = SliceFromProto(frame.slices(i), spec.vocab, storage);
    if (!slice.ok()) return InSlice(i, slice.status());
    tokens += slice->tokens.size();
    step.slices.push_back(*slice);
  }
  if (first_stage) {
    const size_t bytes = frame.activations().size();
    if (bytes != 0) return Bad("activations has ", bytes, " bytes, the first stage takes none");
    return step;
  }
  TANDEM_ASSIGN_OR_RETURN(step.hidden, HiddenFromFrame(frame, spec, tokens, storage));
  return step;
}

}  // namespace tandem::proto_support
