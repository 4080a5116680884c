// The pieces that definitions of transformers are made of, in double precision over a whole sequence at once: no cache,
// no batches, no cleverness.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "tests/support/oracle/model_file.h"

namespace tandem::testing::oracle {

using Tokens = std::span<const int32_t>;

// One vector a token: [tokens, width].
struct Rows {
  size_t width = 0;
  std::vector<double> values;

  Rows(size_t count, size_t row_width) : width(row_width), values(count * row_width) {}
  size_t count() const { return values.size() / width; }
  double* row(size_t token) { return &values[token * width]; }
  const double* row(size_t token) const { return &values[token * width]; }
};

Rows operator+(const Rows& a, const Rows& b);
Rows operator*(double factor, Rows x);
Rows Columns(const Rows& x, size_t first, size_t count);  // [tokens, count]

Rows Embed(const ModelFile& file, Tokens tokens);
// The logits: output.weight, or the embedding's where the file has no head of its own ("tied").
Rows Head(const ModelFile& file, const Rows& x);

// y = W x with slice `slice` of `weight`.
Rows Linear(const Tensor& weight, const Rows& x, size_t slice = 0);
// y = W x, plus the bias where the layer has one.
Rows Project(const Layer& layer, const std::string& name, const Rows& x);

// x / sqrt(mean(x^2) + eps) * weight. A weight narrower than x is that of a head, used for each; a weight of several
// rows has one a head.
Rows RmsNorm(const Rows& x, const Tensor& weight, double eps);
// (x - mean(x)) / sqrt(var(x) + eps) * weight, heads as above.
Rows LayerNorm(const Rows& x, const Tensor& weight, double eps);
Rows LayerNorm(const Rows& x, const Tensor& weight, const Tensor& bias, double eps);

double Sigmoid(double x);
double Silu(double x);
// The approximation by tanh, "gelu_pytorch_tanh", as ggml tabulates it: taken at x rounded to a half, rounded to a
// half. Between -10 and 10; beyond, 0 and x. Without the rounding the reference logits of gemma2 and gemma3 are off
// by 1.04e-4 and 1.31e-4, with it by 1e-6 and 1e-5.
double GeluTanh(double x);
double GeluErf(double x);  // x times the normal distribution
using Activation = double (*)(double);

Rows Apply(Activation activation, Rows x);
Rows Multiply(Rows a, const Rows& b);  // element by element
// down(activation(gate(x)) * up(x)); the names end in `suffix` ("" or "_shexp").
Rows GatedFeedForward(const Layer& layer, const Rows& x, Activation activation, const std::string& suffix = "");
// The same with gate and up in one matrix, ffn_up: first the gate's rows.
Rows FusedGatedFeedForward(const Layer& layer, const Rows& x, Activation activation);
// down(activation(up(x))).
Rows PlainFeedForward(const Layer& layer, const Rows& x, Activation activation);

}  // namespace tandem::testing::oracle
