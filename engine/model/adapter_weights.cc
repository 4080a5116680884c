#include "engine/model/adapter_weights.h"

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "engine/base/status_macros.h"
#include "engine/model/linear.h"
#include "engine/quant/block_format.h"

namespace tandem::engine {
namespace {

// One half of an adapted tensor as it is packed: rows of F32 or F16.
struct Half {
  TensorType type = TensorType::kF32;
  int64_t cols = 0;
  std::vector<std::byte> bytes;

  std::span<const std::byte> Rows(int64_t first, int64_t count) const {
    const int64_t row_bytes = cols * (type == TensorType::kF16 ? 2 : 4);
    return std::span(bytes).subspan(static_cast<size_t>(first * row_bytes), static_cast<size_t>(count * row_bytes));
  }
};

absl::StatusOr<Half> ReadHalf(const AdapterSource& source, const std::string& name,
                              const std::function<bool()>& cancelled) {
  if (cancelled && cancelled()) {
    return absl::CancelledError(absl::StrFormat("loading was cancelled before tensor %s", name));
  }
  const GgufTensor& tensor = *source.file->FindTensor(name);
  std::vector<std::byte> bytes(tensor.bytes);
  TANDEM_RETURN_IF_ERROR(source.source->Read(tensor, 0, bytes));
  const uint64_t count = tensor.cols() * tensor.rows();
  std::vector<float> values(count);
  FindBlockFormat(tensor.type)->dequantize(bytes.data(), values.data(), static_cast<int64_t>(count));
  if (!AllFinite(values.data(), static_cast<int64_t>(count))) {
    return absl::InvalidArgumentError(absl::StrFormat("tensor %s has a value that is infinite or not a number", name));
  }
  Half half;
  half.type = PackedAdapterType(tensor.type);
  half.cols = static_cast<int64_t>(tensor.cols());
  if (half.type == tensor.type) {
    half.bytes = std::move(bytes);
  } else {
    const std::span<const std::byte> floats = std::as_bytes(std::span(values));
    half.bytes.assign(floats.begin(), floats.end());
  }
  return half;
}

}  // namespace

absl::StatusOr<AdapterWeights> AdapterWeights::Load(std::span<const AdapterSpec> specs,
                                                    std::span<const AdapterSource> sources, int32_t first, int32_t end,
                                                    const StageWeights& weights, ThreadPool& pool,
                                                    const std::function<bool()>& cancelled) {
  AdapterWeights result;
  result.adapters_.resize(specs.size());
  for (size_t i = 0; i < specs.size(); ++i) {
    for (const AdaptedTensor& tensor : specs[i].tensors) {
      if (tensor.layer < first || tensor.layer >= end) continue;
      TANDEM_ASSIGN_OR_RETURN(const Half a, ReadHalf(sources[i], tensor.a, cancelled));
      TANDEM_ASSIGN_OR_RETURN(const Half b, ReadHalf(sources[i], tensor.b, cancelled));
      int64_t row = 0;
      for (const Destination& part : tensor.base.parts) {
        AdapterDelta delta;
        delta.scale = specs[i].ScaleOf(tensor);
        TANDEM_ASSIGN_OR_RETURN(delta.a, PackedMatrix::Pack(a.type, tensor.rank, a.cols, a.bytes, pool));
        TANDEM_ASSIGN_OR_RETURN(delta.b,
                                PackedMatrix::Pack(b.type, part.rows, tensor.rank, b.Rows(row, part.rows), pool));
        row += part.rows;
        result.bytes_ += delta.a.bytes() + delta.b.bytes();
        const PackedMatrix* base = &(weights.layers[tensor.layer - first].*part.matrix);
        result.adapters_[i].emplace(base, std::move(delta));
      }
    }
  }
  return result;
}

}  // namespace tandem::engine
