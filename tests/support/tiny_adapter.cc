#include "tests/support/tiny_adapter.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace tandem::testing {
namespace {

std::vector<float> Values(const TinyTensor& tensor) {
  size_t count = 1;
  for (uint64_t dim : tensor.dims) count *= dim;
  std::vector<float> values(count);
  engine::FindBlockFormat(tensor.type)->dequantize(tensor.data.data(), values.data(), static_cast<int64_t>(count));
  return values;
}

// "blk.7.attn_q.weight": is it one of the shape's?
bool IsAdapted(const std::string& name, const TinyAdapterShape& shape) {
  if (!shape.tensors.empty()) return std::find(shape.tensors.begin(), shape.tensors.end(), name) != shape.tensors.end();
  for (int32_t layer = 0; layer < 64; ++layer) {
    if (!shape.layers.empty() && std::find(shape.layers.begin(), shape.layers.end(), layer) == shape.layers.end()) {
      continue;
    }
    for (const std::string& part : shape.parts) {
      if (name == absl::StrCat("blk.", layer, ".", part, ".weight")) return true;
    }
  }
  return false;
}

}  // namespace

TinyModel MakeTinyAdapter(const TinyModel& model, const TinyAdapterShape& shape) {
  TinyModel adapter;
  adapter.metadata["general.type"] = std::string("adapter");
  adapter.metadata["adapter.type"] = std::string("lora");
  adapter.metadata["general.architecture"] = model.metadata.at("general.architecture");
  adapter.metadata["adapter.lora.alpha"] = shape.alpha;
  std::mt19937_64 random(shape.seed);
  const uint64_t rank = static_cast<uint64_t>(shape.rank);
  for (const auto& [name, tensor] : model.tensors) {
    if (!IsAdapted(name, shape)) continue;
    const auto half = [&, &name = name](const char* suffix, uint64_t cols, uint64_t rows) {
      std::vector<float> values(cols * rows);
      const float size = 0.7f / std::sqrt(static_cast<float>(cols));
      for (float& value : values) value = (static_cast<float>(random() >> 40) * 0x1p-23f - 1.0f) * size;
      adapter.SetTensor(name + suffix, shape.type, {cols, rows}, values);
    };
    half(".lora_a", tensor.dims[0], rank);
    half(".lora_b", rank, tensor.dims[1]);
  }
  return adapter;
}

TinyModel MergeAdapter(TinyModel model, const TinyModel& adapter, double scale) {
  const double alpha = std::get<float>(adapter.metadata.at("adapter.lora.alpha"));
  for (const auto& [name, tensor] : adapter.tensors) {
    if (!absl::EndsWith(name, ".lora_a")) continue;
    const std::string base(absl::StripSuffix(name, ".lora_a"));
    const std::vector<float> a = Values(tensor), b = Values(adapter.tensors.at(base + ".lora_b"));
    std::vector<float> weights = Values(model.tensors.at(base));
    const size_t cols = tensor.dims[0], rank = tensor.dims[1], rows = b.size() / rank;
    const double factor = alpha == 0 ? scale : scale * alpha / static_cast<double>(rank);
    for (size_t row = 0; row < rows; ++row) {
      for (size_t col = 0; col < cols; ++col) {
        double sum = 0;
        for (size_t k = 0; k < rank; ++k) sum += static_cast<double>(b[row * rank + k]) * a[k * cols + col];
        float& weight = weights[row * cols + col];
        weight = static_cast<float>(weight + factor * sum);
      }
    }
    model.SetTensor(base, engine::TensorType::kF32, model.tensors.at(base).dims, weights);
  }
  return model;
}

}  // namespace tandem::testing
