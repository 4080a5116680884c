#include "tests/support/oracle/blocks.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "engine/quant/block_format.h"

namespace tandem::testing::oracle {
namespace {

// Weight of element `i` of a row of which `weight` may cover a head only.
double Gain(const Tensor& weight, size_t i) { return weight.values[i % weight.values.size()]; }

double ToHalf(double x) { return engine::HalfToFloat(engine::FloatToHalf(static_cast<float>(x))); }

}  // namespace

Rows operator+(const Rows& a, const Rows& b) {
  Rows sum = a;
  for (size_t i = 0; i < sum.values.size(); ++i) sum.values[i] += b.values[i];
  return sum;
}

Rows operator*(double factor, Rows x) {
  for (double& value : x.values) value *= factor;
  return x;
}

Rows Columns(const Rows& x, size_t first, size_t count) {
  Rows part(x.count(), count);
  for (size_t t = 0; t < x.count(); ++t) std::copy_n(x.row(t) + first, count, part.row(t));
  return part;
}

Rows Embed(const ModelFile& file, Tokens tokens) {
  const Tensor embedding = file.Load("token_embd.weight");
  Rows x(tokens.size(), embedding.cols);
  for (size_t t = 0; t < tokens.size(); ++t) std::copy_n(embedding.row(tokens[t]), embedding.cols, x.row(t));
  return x;
}

Rows Head(const ModelFile& file, const Rows& x) {
  return Linear(file.Load(file.HasTensor("output.weight") ? "output.weight" : "token_embd.weight"), x);
}

Rows Linear(const Tensor& weight, const Rows& x, size_t slice) {
  Rows y(x.count(), weight.rows);
  for (size_t t = 0; t < x.count(); ++t) {
    for (size_t r = 0; r < weight.rows; ++r) {
      double sum = 0;
      for (size_t c = 0; c < weight.cols; ++c) sum += weight.row(r, slice)[c] * x.row(t)[c];
      y.row(t)[r] = sum;
    }
  }
  return y;
}

Rows Project(const Layer& layer, const std::string& name, const Rows& x) {
  Rows y = Linear(layer.Weight(name), x);
  if (!layer.HasBias(name)) return y;
  const Tensor bias = layer.Bias(name);
  for (size_t i = 0; i < y.values.size(); ++i) y.values[i] += bias.values[i % y.width];
  return y;
}

Rows RmsNorm(const Rows& x, const Tensor& weight, double eps) {
  Rows y = x;
  for (size_t begin = 0; begin < x.values.size(); begin += weight.cols) {
    double squares = 0;
    for (size_t i = begin; i < begin + weight.cols; ++i) squares += x.values[i] * x.values[i];
    const double root = std::sqrt(squares / static_cast<double>(weight.cols) + eps);
    for (size_t i = begin; i < begin + weight.cols; ++i) y.values[i] = x.values[i] / root * Gain(weight, i % x.width);
  }
  return y;
}

Rows LayerNorm(const Rows& x, const Tensor& weight, double eps) {
  Rows centred = x;
  for (size_t begin = 0; begin < x.values.size(); begin += weight.cols) {
    double sum = 0;
    for (size_t i = begin; i < begin + weight.cols; ++i) sum += x.values[i];
    for (size_t i = begin; i < begin + weight.cols; ++i) centred.values[i] -= sum / static_cast<double>(weight.cols);
  }
  return RmsNorm(centred, weight, eps);  // the mean square of centred values is the variance
}

Rows LayerNorm(const Rows& x, const Tensor& weight, const Tensor& bias, double eps) {
  Rows y = LayerNorm(x, weight, eps);
  for (size_t i = 0; i < y.values.size(); ++i) y.values[i] += bias.values[i % y.width];
  return y;
}

double Sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
double Silu(double x) { return x * Sigmoid(x); }
double GeluTanh(double x) {
  if (std::abs(x) >= 10) return std::max(x, 0.0);
  const double h = ToHalf(x);
  return ToHalf(0.5 * h * (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (h + 0.044715 * h * h * h))));
}
double GeluErf(double x) { return 0.5 * x * (1 + std::erf(x / std::numbers::sqrt2)); }

Rows Apply(Activation activation, Rows x) {
  for (double& value : x.values) value = activation(value);
  return x;
}

Rows Multiply(Rows a, const Rows& b) {
  for (size_t i = 0; i < a.values.size(); ++i) a.values[i] *= b.values[i];
  return a;
}

Rows GatedFeedForward(const Layer& layer, const Rows& x, Activation activation, const std::string& suffix) {
  const Rows gate = Apply(activation, Project(layer, "ffn_gate" + suffix, x));
  return Project(layer, "ffn_down" + suffix, Multiply(gate, Project(layer, "ffn_up" + suffix, x)));
}

Rows FusedGatedFeedForward(const Layer& layer, const Rows& x, Activation activation) {
  const Rows both = Project(layer, "ffn_up", x);
  const size_t width = both.width / 2;
  const Rows gate = Apply(activation, Columns(both, 0, width));
  return Project(layer, "ffn_down", Multiply(gate, Columns(both, width, width)));
}

Rows PlainFeedForward(const Layer& layer, const Rows& x, Activation activation) {
  return Project(layer, "ffn_down", Apply(activation, Project(layer, "ffn_up", x)));
}

}  // namespace tandem::testing::oracle
