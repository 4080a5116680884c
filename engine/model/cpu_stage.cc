#include "engine/model/cpu_stage.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/base/status_macros.h"
#include "engine/model/state_output.h"

namespace tandem::engine {
namespace {

KvShape KvShapeOf(const ModelSpec& spec, const StageOptions& options) {
  return {.num_pages = options.num_pages,
          .layers = options.end_layer - options.first_layer,
          .kv_heads = spec.kv.heads,
          .page_tokens = options.page_tokens,
          .key_dim = spec.kv.key_dim,
          .value_dim = spec.kv.value_dim,
          .type = options.kv_type};
}

uint64_t RopeBytes(int64_t pairs) { return pairs * sizeof(double); }

absl::StatusOr<std::vector<AdapterSpec>> ReadAdapters(const ModelSpec& spec, const GgufFile& file,
                                                      std::span<const AdapterSource> adapters) {
  std::vector<AdapterSpec> specs;
  for (size_t i = 0; i < adapters.size(); ++i) {
    absl::StatusOr<AdapterSpec> read = ReadAdapter(*adapters[i].file, spec, file);
    if (!read.ok()) {
      return absl::Status(read.status().code(), absl::StrCat("adapter ", i, ": ", read.status().message()));
    }
    specs.push_back(*std::move(read));
  }
  return specs;
}

// What was drawn behind a guess holds only if the guess is what the sequence goes on with.
void DropDrawsBehindWrongGuesses(const Slice& slice, std::vector<SampledToken>* sampled) {
  for (int32_t i = 0; i < slice.guesses; ++i) {
    if (slice.tokens[slice.tokens.size() - slice.guesses + i] == (*sampled)[i].token) continue;
    sampled->resize(i + 1);
    return;
  }
}

}  // namespace

absl::StatusOr<StageMemory> EstimateStageMemory(const ModelSpec& spec, const GgufFile& file,
                                                const StageOptions& options, std::span<const AdapterSource> adapters) {
  TANDEM_RETURN_IF_ERROR(CheckStageOptions(spec, options));
  TANDEM_ASSIGN_OR_RETURN(const std::vector<AdapterSpec> specs, ReadAdapters(spec, file, adapters));
  StageMemory memory;
  memory.weights = StageWeightBytes(spec, file, options.first_layer, options.end_layer);
  for (size_t i = 0; i < adapters.size(); ++i) {
    for (int32_t layer = options.first_layer; layer < options.end_layer; ++layer) {
      memory.weights += AdapterBytes(specs[i], *adapters[i].file, layer);
    }
  }
  TANDEM_ASSIGN_OR_RETURN(memory.kv, KvPages::PoolBytes(KvShapeOf(spec, options)));
  memory.scratch = Scratch::BytesFor(ScratchShape::Of(spec, file, options, specs)) +
                   RopeBytes((spec.two_ropes ? 2 : 1) * (spec.rope.dims / 2));
  return memory;
}

absl::StatusOr<std::unique_ptr<Stage>> Stage::Load(const ModelSpec& spec, const GgufFile& file, TensorSource& source,
                                                   const StageOptions& options, const LoadProgress& progress,
                                                   const std::function<bool()>& cancelled,
                                                   std::span<const AdapterSource> adapters) {
  TANDEM_ASSIGN_OR_RETURN(const StageMemory wanted, EstimateStageMemory(spec, file, options, adapters));
  if (!IsSupported(options.isa)) {
    return absl::InvalidArgumentError(absl::StrFormat("isa is %s, which this machine cannot run; its best is %s",
                                                      IsaName(options.isa), IsaName(DetectIsa())));
  }
  try {
    return CpuStage::Create(spec, file, source, options, progress, cancelled, adapters);
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError(absl::StrFormat(
        "no memory for layers %d to %d: they want %d bytes (weights %d, KV pages %d, scratch %d); give the stage fewer "
        "layers or fewer pages",
        options.first_layer, options.end_layer - 1, wanted.total(), wanted.weights, wanted.kv, wanted.scratch));
  }
}

absl::StatusOr<std::unique_ptr<Stage>> CpuStage::Create(const ModelSpec& spec, const GgufFile& file,
                                                        TensorSource& source, const StageOptions& options,
                                                        const LoadProgress& progress,
                                                        const std::function<bool()>& cancelled,
                                                        std::span<const AdapterSource> sources) {
  TANDEM_ASSIGN_OR_RETURN(const std::vector<AdapterSpec> specs, ReadAdapters(spec, file, sources));
  TANDEM_ASSIGN_OR_RETURN(std::unique_ptr<KvPages> kv,
                          KvPages::Create(KvShapeOf(spec, options), KernelsFor(options.isa)));
  auto pool = std::make_unique<ThreadPool>(options.threads, options.pin_threads);
  TANDEM_ASSIGN_OR_RETURN(StageWeights weights, LoadStageWeights(spec, file, source, options.first_layer,
                                                                 options.end_layer, *pool, progress, cancelled));
  TANDEM_ASSIGN_OR_RETURN(AdapterWeights adapters, AdapterWeights::Load(specs, sources, options.first_layer,
                                                                        options.end_layer, weights, *pool, cancelled));
  std::vector<RopeFrequencies> ropes;
  TANDEM_ASSIGN_OR_RETURN(ropes.emplace_back(), RopeFrequencies::Create(spec.rope, weights.rope_factors));
  if (spec.two_ropes) {
    TANDEM_ASSIGN_OR_RETURN(ropes.emplace_back(), RopeFrequencies::Create(spec.windowed_rope, {}));
  }
  weights.rope_factors = {};
  const ScratchShape shape = ScratchShape::Of(spec, file, options, specs);
  return std::unique_ptr<Stage>(new CpuStage(spec, options, std::move(pool), shape, std::move(kv), std::move(weights),
                                             std::move(adapters), std::move(ropes)));
}

CpuStage::CpuStage(const ModelSpec& spec, const StageOptions& options, std::unique_ptr<ThreadPool> pool,
                   const ScratchShape& scratch_shape, std::unique_ptr<KvPages> kv, StageWeights weights,
                   AdapterWeights adapters, std::vector<RopeFrequencies> ropes)
    : spec_(spec),
      options_(options),
      kernels_(KernelsFor(options.isa)),
      pool_(std::move(pool)),
      scratch_shape_(scratch_shape),
      scratch_(scratch_shape),
      kv_(std::move(kv)),
      weights_(std::move(weights)),
      adapters_(std::move(adapters)),
      ropes_(std::move(ropes)),
      linear_(kernels_, scratch_),
      adapter_products_(adapters_, kernels_, *pool_, scratch_, scratch_shape_),
      block_(spec_, kernels_, *pool_, scratch_, *kv_, adapter_products_),
      checker_(spec_, options_, adapters_.count(), scratch_) {}

StageMemory CpuStage::memory() const {
  return {.weights = weights_.bytes + adapters_.bytes(),
          .kv = kv_->bytes(),
          .scratch = scratch_.bytes() + RopeBytes(static_cast<int64_t>(ropes_.size()) * ropes_[0].pairs())};
}

absl::Status CpuStage::Run(const Step& step, StepResult* result) {
  result->hidden.clear();
  result->results.clear();
  TANDEM_ASSIGN_OR_RETURN(const int64_t tokens, checker_.Check(step));
  try {
    return RunChecked(step, tokens, result);
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError(absl::StrFormat("no memory for the results of a step of %d tokens", tokens));
  }
}

absl::Status CpuStage::RunChecked(const Step& step, int64_t tokens, StepResult* result) {
  for (const PageCopy& copy : step.copies) kv_->Copy(copy.from, copy.to);
  FillInput(step, tokens);
  adapter_products_.Begin(step);
  for (size_t layer = 0; layer < weights_.layers.size(); ++layer) {
    const absl::Status status = block_.Forward(weights_.layers[layer], spec_.layers[options_.first_layer + layer],
                                               static_cast<int32_t>(layer), step, tokens);
    if (!status.ok()) {
      return absl::Status(status.code(), absl::StrCat("layer ", options_.first_layer + layer, ": ", status.message()));
    }
  }
  if (is_last()) return RunHead(step, result);
  const int64_t count = tokens * spec_.hidden;
  if (!AllFinite(scratch_.hidden, count)) {
    return absl::InternalError(
        absl::StrFormat("layer %d: a hidden value is infinite or not a number: the weights are "
                        "broken",
                        options_.end_layer - 1));
  }
  result->hidden.assign(scratch_.hidden, scratch_.hidden + count);
  return absl::OkStatus();
}

void CpuStage::FillInput(const Step& step, int64_t tokens) {
  pool_->ParallelFor(tokens, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t token = begin; token < end; ++token) {
      const TokenPlace& place = scratch_.places[token];
      for (size_t i = 0; i < ropes_.size(); ++i) {
        const int64_t offset = token * ropes_[i].pairs();
        const Scratch::Rotations& to = scratch_.rotations[i];
        ropes_[i].Rotation(place.position, to.cos + offset, to.sin + offset);
      }
      if (is_first()) Embed(step.slices[place.slice], place, scratch_.hidden + token * spec_.hidden);
    }
  });
  if (!is_first()) std::copy(step.hidden.begin(), step.hidden.end(), scratch_.hidden);
}

void CpuStage::Embed(const Slice& slice, const TokenPlace& place, float* out) const {
  weights_.embedding.ReadRow(slice.tokens[place.position - slice.position], out);
  if (spec_.embedding_scale == 1.0f) return;
  for (int32_t i = 0; i < spec_.hidden; ++i) out[i] *= spec_.embedding_scale;
}

absl::Status CpuStage::RunHead(const Step& step, StepResult* result) {
  const std::vector<HeadRow> rows = ChooseHeadRows(step, result);
  const std::span<const HeadRow> all(rows);
  for (size_t begin = 0; begin < rows.size(); begin += scratch_shape_.logit_rows) {
    const auto batch = all.subspan(begin, std::min<size_t>(scratch_shape_.logit_rows, rows.size() - begin));
    TANDEM_RETURN_IF_ERROR(ComputeLogits(batch));
    TANDEM_RETURN_IF_ERROR(FinishRows(step, batch));
  }
  for (SliceResult& slice : result->results) DropDrawsBehindWrongGuesses(step.slices[slice.slice], &slice.sampled);
  return TakeStates(
      step, spec_.hidden, *pool_, [this](int64_t token, float* out) { NormOutput(token, out); }, scratch_.normed,
      result);
}

void CpuStage::NormOutput(int64_t token, float* out) const {
  block_.Norm(weights_.output_norm, weights_.output_norm_bias, scratch_.hidden + token * spec_.hidden, out);
}

std::vector<CpuStage::HeadRow> CpuStage::ChooseHeadRows(const Step& step, StepResult* result) const {
  for (size_t i = 0; i < step.slices.size(); ++i) {
    const Slice& slice = step.slices[i];
    if (slice.output == SliceOutput::kNone) continue;
    SliceResult& to = result->results.emplace_back();
    to.slice = static_cast<int32_t>(i);
    if (slice.output == SliceOutput::kLogits) to.logits.resize(slice.tokens.size() * spec_.vocab);
    if (slice.output == SliceOutput::kSample) to.sampled.resize(slice.guesses + 1);
  }
  std::vector<HeadRow> rows;
  auto to = result->results.begin();
  int64_t first_token = 0;
  for (size_t i = 0; i < step.slices.size(); ++i) {
    const Slice& slice = step.slices[i];
    const int64_t count = static_cast<int64_t>(slice.tokens.size());
    if (slice.output == SliceOutput::kSample) {
      for (int32_t draw = 0; draw <= slice.guesses; ++draw) {
        rows.push_back({first_token + count - 1 - slice.guesses + draw, static_cast<int32_t>(i), &*to, nullptr, draw});
      }
    } else if (slice.output == SliceOutput::kLogits) {
      for (int64_t t = 0; t < count; ++t) {
        rows.push_back({first_token + t, static_cast<int32_t>(i), &*to, to->logits.data() + t * spec_.vocab});
      }
    }
    if (slice.output != SliceOutput::kNone) ++to;
    first_token += count;
  }
  return rows;
}

absl::Status CpuStage::ComputeLogits(std::span<const HeadRow> rows) {
  const InputForms forms{&weights_.head};
  for (size_t i = 0; i < rows.size(); ++i) {
    const float* x = scratch_.hidden + rows[i].token * spec_.hidden;
    if (!block_.PrepareNormed(forms, weights_.output_norm, weights_.output_norm_bias, x, static_cast<int64_t>(i))) {
      return absl::InternalError("the last hidden state is infinite or not a number: the weights are broken");
    }
  }
  pool_->ParallelFor(weights_.head.groups(), 1, [&](int64_t begin, int64_t end, int) {
    linear_.Multiply(weights_.head, scratch_.normed, 0, rows.size(), begin, end, scratch_.logits, spec_.vocab);
    const int64_t first = begin * kRowGroup, count = std::min<int64_t>(end * kRowGroup, spec_.vocab) - first;
    for (size_t i = 0; i < rows.size(); ++i) ScaleLogits(count, scratch_.logits + i * spec_.vocab + first);
  });
  return absl::OkStatus();
}

void CpuStage::ScaleLogits(int64_t count, float* logits) const {
  if (spec_.logit_scale != 1.0f) {
    for (int64_t i = 0; i < count; ++i) logits[i] *= spec_.logit_scale;
  }
  if (spec_.logit_cap != 0.0f) kernels_.soft_cap(logits, count, spec_.logit_cap);
}

absl::Status CpuStage::FinishRows(const Step& step, std::span<const HeadRow> rows) {
  std::vector<absl::Status> statuses(rows.size());
  pool_->ParallelFor(rows.size(), 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      statuses[i] = FinishRow(step, rows[i], {scratch_.logits + i * spec_.vocab, static_cast<size_t>(spec_.vocab)});
    }
  });
  for (const absl::Status& status : statuses) TANDEM_RETURN_IF_ERROR(status);
  return absl::OkStatus();
}

absl::Status CpuStage::FinishRow(const Step& step, const HeadRow& row, std::span<const float> logits) const {
  if (!AllFinite(logits.data(), spec_.vocab)) {
    return absl::InternalError(
        absl::StrFormat("slice %d: a logit is infinite or not a number: the weights are broken", row.slice));
  }
  if (row.logits != nullptr) {
    std::copy(logits.begin(), logits.end(), row.logits);
    return absl::OkStatus();
  }
  const Slice& slice = step.slices[row.slice];
  const int32_t unseen = slice.guesses - row.draw;  // guesses behind this row
  DrawState state = slice.draw;
  if (!state.recent.empty()) {
    const size_t seen = state.recent.size() - unseen;
    const size_t window = std::min<size_t>(seen, slice.sampling->penalty_window);
    state.recent = state.recent.subspan(seen - window, window);
  }
  TANDEM_ASSIGN_OR_RETURN(
      row.result->sampled[row.draw],
      Sample(logits, *slice.sampling, state, slice.position + static_cast<int64_t>(slice.tokens.size()) - unseen));
  return absl::OkStatus();
}

}  // namespace tandem::engine
