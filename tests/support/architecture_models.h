// One small model of every architecture, and of every variant that takes another path through an engine: random weights
// in F32, with the keys, tensor names and shapes of files that llama.cpp's converter writes (absent keys included).
#pragma once

#include <cstdint>
#include <ostream>
#include <string>
#include <vector>

#include "tests/support/tiny_model.h"

namespace tandem::testing {

struct ArchitectureModel {
  std::string name;  // of the variant: "falcon_40b"
  TinyModel (*make)(uint64_t seed);
  // Of the weights. One by which no token's choice of experts is so close that F16 keys and values turn it.
  uint64_t seed = 1;
};
// What a failing test shows of its parameter.
inline void PrintTo(const ArchitectureModel& model, std::ostream* out) { *out << model.name; }

// Gemma's GELU is rounded to a half (GeluTanh of the oracle), so a last bit of difference can become 2^-11 of an
// element, in each of up to 62 layers: 2^-11 * sqrt(62).
inline constexpr double kMaxErrorGemma = 4e-3;
// The bound on the relative error of a model's logits; `usual` is that of models without such a step.
inline double MaxErrorOf(const ArchitectureModel& model, double usual) {
  return model.name.starts_with("gemma") ? kMaxErrorGemma : usual;
}

// Those without experts, and those with.
std::vector<ArchitectureModel> DenseArchitectureModels();
std::vector<ArchitectureModel> ExpertArchitectureModels();

}  // namespace tandem::testing
