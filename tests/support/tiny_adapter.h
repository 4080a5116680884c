// Small LoRA adapters with random weights for tiny models, and the models that they amount to.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tests/support/tiny_model.h"

namespace tandem::testing {

struct TinyAdapterShape {
  int32_t rank = 4;
  float alpha = 8.0f;
  engine::TensorType type = engine::TensorType::kF32;
  uint64_t seed = 1;
  // Parts of each layer that are adapted, and the layers; empty: all.
  std::vector<std::string> parts = {"attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"};
  std::vector<int32_t> layers;
  std::vector<std::string> tensors;  // not empty: these of the model instead
};

// An adapter for `model`, as a file that a test may spoil before it is written. The same arguments give the same bytes.
TinyModel MakeTinyAdapter(const TinyModel& model, const TinyAdapterShape& shape);

// `model` with scale * alpha / rank * B A added to each adapted matrix, in double, and stored as F32.
TinyModel MergeAdapter(TinyModel model, const TinyModel& adapter, double scale);

}  // namespace tandem::testing
