#include "tests/support/oracle/attention.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace tandem::testing::oracle {
namespace {

// YaRN (Peng et al. 2023, section 3.2): frequencies that turn often within the original context stay, those that turn
// less than once are divided by the factor, those between are mixed. The bounds are rounded outwards to whole pairs.
void ScaleYarn(const ModelFile& file, double base, double factor, Rope* rope) {
  const double pairs = static_cast<double>(rope->frequency.size());
  const double context = file.Int("rope.scaling.original_context_length", file.Int("context_length"));
  const auto pair_with_turns = [&](double turns) {
    return pairs * std::log(context / (turns * 2 * std::numbers::pi)) / std::log(base);
  };
  const double low = std::max(0.0, std::floor(pair_with_turns(file.Float("rope.scaling.yarn_beta_fast", 32))));
  const double high = std::min(2 * pairs - 1, std::ceil(pair_with_turns(file.Float("rope.scaling.yarn_beta_slow", 1))));
  for (size_t i = 0; i < rope->frequency.size(); ++i) {
    const double ramp = std::clamp((static_cast<double>(i) - low) / std::max(0.001, high - low), 0.0, 1.0);
    rope->frequency[i] *= (1 - ramp) + ramp / factor;
  }
  rope->magnitude = 1 + 0.1 * std::log(factor);
}

}  // namespace

Shape ReadShape(const ModelFile& file) {
  Shape shape;
  shape.layers = file.Int("block_count");
  shape.hidden = file.Int("embedding_length");
  shape.heads = file.Int("attention.head_count");
  shape.kv_heads = file.Int("attention.head_count_kv", shape.heads);
  shape.key_dim = file.Int("attention.key_length", shape.hidden / shape.heads);
  shape.value_dim = file.Int("attention.value_length", shape.hidden / shape.heads);
  return shape;
}

Rope PlainRope(int dims, double base, Rope::Pairs pairs) {
  Rope rope{.pairs = pairs};
  for (int i = 0; i < dims / 2; ++i) rope.frequency.push_back(std::pow(base, -2.0 * i / dims));
  return rope;
}

Rope ReadRope(const ModelFile& file, Rope::Pairs pairs) {
  const double base = file.Float("rope.freq_base", 10000);
  Rope rope = PlainRope(file.Int("rope.dimension_count", ReadShape(file).key_dim), base, pairs);
  const std::string scaling = file.String("rope.scaling.type", "none");
  const double factor = file.Float("rope.scaling.factor", 1);
  if (scaling == "linear") {
    for (double& frequency : rope.frequency) frequency /= factor;
  }
  if (scaling == "yarn") ScaleYarn(file, base, factor, &rope);
  if (file.HasTensor("rope_freqs.weight")) DivideFrequencies(file.Load("rope_freqs.weight"), &rope);
  return rope;
}

void DivideFrequencies(const Tensor& factors, Rope* rope) {
  for (size_t i = 0; i < rope->frequency.size(); ++i) rope->frequency[i] /= factors.values[i];
}

void Rotate(const Rope& rope, int head_dim, Rows* x, int offset) {
  const size_t pairs = rope.frequency.size();
  for (size_t t = 0; t < x->count(); ++t) {
    for (size_t head = 0; head < x->width; head += head_dim) {
      double* values = x->row(t) + head + offset;
      for (size_t i = 0; i < pairs; ++i) {
        double& a = values[rope.pairs == Rope::kNeighbours ? 2 * i : i];
        double& b = values[rope.pairs == Rope::kNeighbours ? 2 * i + 1 : i + pairs];
        const double angle = static_cast<double>(t) * rope.frequency[i];
        const double turned = (a * std::cos(angle) - b * std::sin(angle)) * rope.magnitude;
        b = (a * std::sin(angle) + b * std::cos(angle)) * rope.magnitude;
        a = turned;
      }
    }
  }
}

Qkv Project(const Layer& layer, const Rows& x) {
  return {Project(layer, "attn_q", x), Project(layer, "attn_k", x), Project(layer, "attn_v", x)};
}

Qkv ProjectFused(const Layer& layer, const Shape& shape, const Rows& x) {
  const Rows all = Project(layer, "attn_qkv", x);
  const size_t q = shape.heads * shape.key_dim, k = shape.kv_heads * shape.key_dim;
  return {Columns(all, 0, q), Columns(all, q, k), Columns(all, q + k, shape.kv_heads * shape.value_dim)};
}

void Rotate(const Rope& rope, const Shape& shape, Qkv* qkv) {
  Rotate(rope, shape.key_dim, &qkv->q);
  Rotate(rope, shape.key_dim, &qkv->k);
}

Rows Attend(const Qkv& qkv, const Shape& shape, const AttentionOptions& options) {
  const int tokens = static_cast<int>(qkv.q.count());
  const double scale = options.scale != 0 ? options.scale : 1 / std::sqrt(shape.key_dim);
  Rows out(tokens, shape.heads * shape.value_dim);
  for (int t = 0; t < tokens; ++t) {
    const int first = options.window > 0 ? std::max(0, t - options.window + 1) : 0;
    for (int head = 0; head < shape.heads; ++head) {
      const int kv_head = head / (shape.heads / shape.kv_heads);
      const double* query = qkv.q.row(t) + head * shape.key_dim;
      std::vector<double> weight(t + 1);
      double total = options.sinks != nullptr ? std::exp(options.sinks->values[head]) : 0;
      for (int s = first; s <= t; ++s) {
        double score = 0;
        for (int i = 0; i < shape.key_dim; ++i) score += query[i] * qkv.k.row(s)[kv_head * shape.key_dim + i];
        score *= scale;
        if (options.softcap != 0) score = options.softcap * std::tanh(score / options.softcap);
        total += weight[s] = std::exp(score);
      }
      double* result = out.row(t) + head * shape.value_dim;
      for (int s = first; s <= t; ++s) {
        const double* value = qkv.v.row(s) + kv_head * shape.value_dim;
        for (int i = 0; i < shape.value_dim; ++i) result[i] += weight[s] / total * value[i];
      }
    }
  }
  return out;
}

}  // namespace tandem::testing::oracle
