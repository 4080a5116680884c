#include "engine/model/feed_forward.h"

#include <algorithm>

#include "engine/cpu/canonical_math.h"

namespace tandem::engine {
namespace {

KernelTable::Activate KernelOf(Activation activation, const KernelTable& kernels) {
  switch (activation) {
    case Activation::kSilu:
      return kernels.silu_mul;
    case Activation::kGeluTanh:
      return kernels.gelu_tanh_mul;
    case Activation::kGeluErf:
      return kernels.gelu_erf_mul;
    case Activation::kClampedSwiglu:
      return kernels.clamped_swiglu;
  }
  return kernels.silu_mul;
}

}  // namespace

FeedForward::FeedForward(BlockContext& context)
    : context_(context),
      activate_(KernelOf(context.spec.row->activation, context.kernels)),
      router_(context.spec.experts, context.scratch) {}

void FeedForward::Run(const LayerWeights& weights) {
  if (!weights.router.empty()) return RunExperts(weights);
  GateAndUp(weights);
  context_.ProjectAndAdd(weights.down, weights.down_bias, weights.ffn_post_norm, context_.scratch.gate);
}

// A thread applies f to the columns that it computed itself, so no thread waits for another.
void FeedForward::GateAndUp(const LayerWeights& weights) {
  const Scratch& scratch = context_.scratch;
  const bool gated = !weights.gate.empty();
  const int64_t ffn = weights.up.rows(), tokens = context_.tokens;
  float* up = gated ? scratch.up : scratch.gate;
  const auto activate = [&](int64_t token, int64_t first, int64_t count) {
    float* gate = scratch.gate + token * ffn + first;
    activate_(gate, gated ? scratch.up + token * ffn + first : nullptr, count, gate);
  };
  if (context_.adapters.active()) {
    if (gated) context_.Project({{weights.gate, weights.gate_bias, scratch.gate}}, scratch.normed);
    context_.Project({{weights.up, weights.up_bias, up}}, scratch.normed);
    context_.ForTokens([&](int64_t token) { activate(token, 0, ffn); });
    context_.PrepareRows({&weights.down}, scratch.gate, tokens, ffn);
    return;
  }
  context_.pool.ParallelFor(weights.up.groups(), 1, [&](int64_t begin, int64_t end, int) {
    if (gated) context_.MultiplyColumns({weights.gate, weights.gate_bias, scratch.gate}, scratch.normed, begin, end);
    context_.MultiplyColumns({weights.up, weights.up_bias, up}, scratch.normed, begin, end);
    const int64_t first = begin * kRowGroup, count = std::min(end * kRowGroup, ffn) - first;
    for (int64_t token = 0; token < tokens; ++token) activate(token, first, count);
  });
  context_.PrepareRows({&weights.down}, scratch.gate, tokens, ffn);
}

void FeedForward::RunExperts(const LayerWeights& weights) {
  const Scratch& scratch = context_.scratch;
  const int64_t hidden = context_.spec.hidden;
  context_.Project({{weights.router, weights.router_bias, scratch.expert_scores}}, scratch.normed);
  context_.ForTokens([&](int64_t token) { router_.Choose(weights, token); });
  router_.Group(context_.tokens);
  if (!weights.down.empty()) {
    GateAndUp(weights);
    context_.Project({{weights.down, weights.down_bias, scratch.projected}}, scratch.gate);
  }
  PrepareExpertInput(weights);
  ExpertGateAndUp(weights);
  ExpertDown(weights);
  context_.ForTokens([&](int64_t token) {
    float* result = scratch.projected + token * hidden;
    if (weights.down.empty()) {
      std::fill_n(result, hidden, 0.0f);
    } else {
      ScaleShared(weights, token);
    }
    AddExperts(weights, token);
    context_.AddProjected(weights.ffn_post_norm, token);
  });
}

void FeedForward::ScaleShared(const LayerWeights& weights, int64_t token) {
  if (weights.shared_gate.empty()) return;
  const Scratch& scratch = context_.scratch;
  const int64_t hidden = context_.spec.hidden;
  const float* x = scratch.normed + token * hidden;
  float* result = scratch.projected + token * hidden;
  double score = 0;  // a plain sum in ascending order
  for (int64_t i = 0; i < hidden; ++i) score += static_cast<double>(x[i]) * weights.shared_gate[i];
  const float scale = 1.0f / (1.0f + CanonicalExp(-static_cast<float>(score)));
  for (int64_t i = 0; i < hidden; ++i) result[i] *= scale;
}

void FeedForward::PrepareExpertInput(const LayerWeights& weights) {
  const Scratch& scratch = context_.scratch;
  const int64_t hidden = context_.spec.hidden;
  InputForms forms(weights.expert_gate);
  forms.Add(InputForms(weights.expert_up));
  context_.ForRows(context_.tokens * context_.spec.experts.used, [&](int64_t row) {
    const float* x = scratch.normed + scratch.row_tokens[row] * hidden;
    context_.PrepareRow(forms, x, row, hidden);
    if (forms.Has(ActivationKind::kF32)) std::copy_n(x, hidden, scratch.expert_input + row * hidden);
  });
}

void FeedForward::ExpertGateAndUp(const LayerWeights& weights) {
  const Scratch& scratch = context_.scratch;
  const int64_t ffn = context_.spec.experts.ffn;
  const auto run = [&](const Matrices& matrices, float* output) {
    return [&, output](int64_t i) -> MatrixRun {
      const int32_t expert = scratch.active_experts[i];
      const int64_t begin = scratch.expert_begin[expert], end = scratch.expert_begin[expert + 1];
      return {&matrices[expert], begin, end - begin, output + begin * ffn, ffn};
    };
  };
  const bool gated = !weights.expert_gate.empty();
  if (gated) context_.MultiplyRuns(router_.active(), run(weights.expert_gate, scratch.gate), scratch.expert_input);
  context_.MultiplyRuns(router_.active(), run(weights.expert_up, gated ? scratch.up : scratch.gate),
                        scratch.expert_input);
  const InputForms forms(weights.expert_down);
  const int64_t used = context_.spec.experts.used;
  // By choice, not by row: only here is the expert of a row at hand.
  context_.ForRows(context_.tokens * used, [&](int64_t choice) {
    const int64_t row = scratch.expert_rows[choice], bias = scratch.expert_ids[choice] * ffn;
    float* gate = scratch.gate + row * ffn;
    float* up = scratch.up + row * ffn;
    if (!weights.expert_gate_bias.empty()) context_.kernels.add(weights.expert_gate_bias.data() + bias, ffn, gate);
    if (!weights.expert_up_bias.empty()) {
      context_.kernels.add(weights.expert_up_bias.data() + bias, ffn, gated ? up : gate);
    }
    activate_(gate, gated ? up : nullptr, ffn, gate);
    context_.PrepareRow(forms, gate, row, ffn);
  });
}

void FeedForward::ExpertDown(const LayerWeights& weights) {
  const Scratch& scratch = context_.scratch;
  const int64_t hidden = context_.spec.hidden;
  const auto run = [&](int64_t i) -> MatrixRun {
    const int32_t expert = scratch.active_experts[i];
    const int64_t begin = scratch.expert_begin[expert], end = scratch.expert_begin[expert + 1];
    return {&weights.expert_down[expert], begin, end - begin, scratch.expert_output + begin * hidden, hidden};
  };
  context_.MultiplyRuns(router_.active(), run, scratch.gate);
}

void FeedForward::AddExperts(const LayerWeights& weights, int64_t token) {
  const Scratch& scratch = context_.scratch;
  const int64_t hidden = context_.spec.hidden, used = context_.spec.experts.used;
  float* result = scratch.projected + token * hidden;
  for (int64_t choice = token * used; choice < (token + 1) * used; ++choice) {
    float* output = scratch.expert_output + scratch.expert_rows[choice] * hidden;
    const int32_t expert = scratch.expert_ids[choice];
    if (!weights.expert_down_bias.empty()) {
      context_.kernels.add(weights.expert_down_bias.data() + expert * hidden, hidden, output);
    }
    context_.kernels.add_scaled(output, scratch.expert_weights[choice], hidden, result);
  }
}

}  // namespace tandem::engine
