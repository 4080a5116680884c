// Constants of the activation functions, shared by all kernel sets. Plain values only (see kernel_args.h).
#pragma once

namespace tandem::engine {

// gelu(x) = x / 2 (1 + tanh(u)) = x / (1 + exp(-2 u)) with 2 u = x (kGeluLinear + kGeluCubic x^2): Hendrycks and Gimpel
// (2016), u = sqrt(2 / pi) (x + 0.044715 x^3).
inline constexpr float kGeluLinear = 1.5957691216057308f;
inline constexpr float kGeluCubic = 0.07135481282619f;
// Between -kGeluRange and kGeluRange it is taken at x rounded to half and rounded to half itself, as by the table that
// ggml looks it up in: reference logits differ by more than 1e-4 from those of the unrounded function. Below it is 0,
// above x.
inline constexpr float kGeluRange = 10.0f;

// The clamped SwiGLU of gpt-oss: openai/gpt-oss, model card and reference implementation.
inline constexpr float kClampedSwigluLimit = 7.0f;
inline constexpr float kClampedSwigluSlope = 1.702f;

}  // namespace tandem::engine
