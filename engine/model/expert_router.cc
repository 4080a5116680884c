#include "engine/model/expert_router.h"

#include <algorithm>
#include <limits>

#include "engine/cpu/canonical_math.h"

namespace tandem::engine {
namespace {

constexpr float kOut = -std::numeric_limits<float>::infinity();
// Below the smallest sum that occurs; keeps a division by it finite.
constexpr float kSmallestSum = 0x1p-14f;

// Softmax of x[0, n), the sum in ascending order.
void Softmax(float* x, int64_t n) {
  const float max = *std::max_element(x, x + n);
  float sum = 0.0f;
  for (int64_t i = 0; i < n; ++i) {
    x[i] = CanonicalExp(x[i] - max);
    sum += x[i];
  }
  for (int64_t i = 0; i < n; ++i) x[i] /= sum;
}

// Index of the largest of x[0, n), the first of equal ones.
int32_t Best(const float* x, int32_t n) { return static_cast<int32_t>(std::max_element(x, x + n) - x); }

}  // namespace

void ExpertRouter::Choose(const LayerWeights& weights, int64_t token) {
  float* scores = scratch_.expert_scores + token * spec_.count;
  float* selection = scratch_.expert_selection + token * (spec_.count + spec_.groups);
  int32_t* ids = scratch_.expert_ids + token * spec_.used;
  Activate(scores);
  for (int32_t e = 0; e < spec_.count; ++e) {
    selection[e] = weights.selection_bias.empty() ? scores[e] : scores[e] + weights.selection_bias[e];
  }
  if (spec_.groups_used < spec_.groups) LimitGroups(selection, selection + spec_.count);
  for (int32_t i = 0; i < spec_.used; ++i) {
    ids[i] = Best(selection, spec_.count);
    selection[ids[i]] = kOut;
  }
  std::sort(ids, ids + spec_.used);
  Weigh(scores, ids, scratch_.expert_weights + token * spec_.used);
}

void ExpertRouter::Activate(float* scores) const {
  switch (spec_.gating) {
    case Gating::kSoftmax:
      return Softmax(scores, spec_.count);
    case Gating::kSigmoid:
      for (int32_t e = 0; e < spec_.count; ++e) scores[e] = 1.0f / (1.0f + CanonicalExp(-scores[e]));
      return;
    case Gating::kSoftmaxOfChosen:
      return;
  }
}

// A group counts by its best expert where scores are a softmax (DeepSeek-V2, 2024), by the sum of its two best where
// each is a sigmoid (DeepSeek-V3, 2024).
void ExpertRouter::LimitGroups(float* selection, float* group_scores) const {
  const int32_t size = spec_.count / spec_.groups;
  for (int32_t group = 0; group < spec_.groups; ++group) {
    float best = kOut, second = kOut;
    for (int32_t e = group * size; e < (group + 1) * size; ++e) {
      second = std::max(second, std::min(best, selection[e]));
      best = std::max(best, selection[e]);
    }
    group_scores[group] = spec_.gating == Gating::kSoftmax || size == 1 ? best : best + second;
  }
  for (int32_t group = 0; group < spec_.groups; ++group) {
    int32_t before = 0;
    for (int32_t other = 0; other < spec_.groups; ++other) {
      const float difference = group_scores[other] - group_scores[group];
      if (difference > 0.0f || (difference == 0.0f && other < group)) ++before;
    }
    if (before >= spec_.groups_used) std::fill_n(selection + group * size, size, kOut);
  }
}

void ExpertRouter::Weigh(const float* scores, const int32_t* ids, float* weights) const {
  const int32_t used = spec_.used;
  for (int32_t i = 0; i < used; ++i) weights[i] = scores[ids[i]];
  if (spec_.gating == Gating::kSoftmaxOfChosen) {
    Softmax(weights, used);
  } else if (spec_.normalise) {
    float sum = 0.0f;
    for (int32_t i = 0; i < used; ++i) sum += weights[i];
    sum = std::max(sum, kSmallestSum);
    for (int32_t i = 0; i < used; ++i) weights[i] /= sum;
  }
  for (int32_t i = 0; i < used; ++i) weights[i] *= spec_.scale;
}

void ExpertRouter::Group(int64_t tokens) {
  int32_t* begin = scratch_.expert_begin;
  std::fill_n(begin, spec_.count + 1, 0);
  const int64_t rows = tokens * spec_.used;
  for (int64_t i = 0; i < rows; ++i) ++begin[scratch_.expert_ids[i] + 1];
  active_ = 0;
  for (int32_t e = 0; e < spec_.count; ++e) {
    if (begin[e + 1] > 0) scratch_.active_experts[active_++] = e;
    begin[e + 1] += begin[e];
  }
  // Filling moves each begin to the next one's place; the last step moves them back.
  for (int64_t i = 0; i < rows; ++i) {
    const int32_t row = begin[scratch_.expert_ids[i]]++;
    scratch_.expert_rows[i] = row;
    scratch_.row_tokens[row] = static_cast<int32_t>(i / spec_.used);
  }
  for (int32_t e = spec_.count; e > 0; --e) begin[e] = begin[e - 1];
  begin[0] = 0;
}

}  // namespace tandem::engine
