#include "engine/model/weights.h"

#include <algorithm>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "engine/base/status_macros.h"
#include "engine/model/model_layout.h"
#include "engine/quant/block_format.h"

namespace tandem::engine {
namespace {

// Reads the tensors of one load, one after the other, with progress and cancellation.
class Loader {
 public:
  Loader(const GgufFile& file, TensorSource& source, ThreadPool& pool, const LoadProgress& progress,
         const std::function<bool()>& cancelled)
      : file_(file), source_(source), pool_(pool), progress_(progress), cancelled_(cancelled) {}

  // Counts a tensor into the total that progress is reported against.
  void Announce(absl::string_view name) { bytes_total_ += file_.FindTensor(name)->bytes; }

  // Bytes of a tensor, checked; passes them to `use`.
  template <typename Use>
  absl::Status Read(absl::string_view name, Use use) {
    if (cancelled_ && cancelled_()) {
      return absl::CancelledError(absl::StrFormat("loading was cancelled before tensor %s", name));
    }
    const GgufTensor& tensor = *file_.FindTensor(name);
    TANDEM_ASSIGN_OR_RETURN(const std::span<const std::byte> bytes, source_.Read(tensor));
    if (bytes.size() != tensor.bytes) {
      return absl::InvalidArgumentError(
          absl::StrFormat("tensor %s came with %d bytes, its header says %d", name, bytes.size(), tensor.bytes));
    }
    TANDEM_RETURN_IF_ERROR(use(tensor, bytes));
    bytes_done_ += tensor.bytes;
    if (progress_) progress_(bytes_done_, bytes_total_);
    return absl::OkStatus();
  }

  absl::Status Pack(TensorType type, int64_t rows, int64_t cols, std::span<const std::byte> bytes, PackedMatrix* out) {
    TANDEM_ASSIGN_OR_RETURN(*out, PackedMatrix::Pack(type, rows, cols, bytes, pool_));
    bytes_held_ += out->bytes();
    return absl::OkStatus();
  }

  absl::Status Matrix(absl::string_view name, PackedMatrix* out) {
    return Read(name, [&](const GgufTensor& tensor, auto bytes) {
      return Pack(tensor.type, tensor.rows(), tensor.cols(), bytes, out);
    });
  }

  absl::Status ReadVector(absl::string_view name, Vector* out) {
    return Read(name, [&](const GgufTensor& tensor, std::span<const std::byte> bytes) {
      out->resize(tensor.cols() * tensor.rows());
      FindBlockFormat(tensor.type)->dequantize(bytes.data(), out->data(), out->size());
      bytes_held_ += out->size() * sizeof(float);
      return absl::OkStatus();
    });
  }

  absl::Status Layer(const std::vector<LayerTensor>& tensors, LayerWeights* out) {
    for (const LayerTensor& tensor : tensors) {
      if (tensor.is_vector()) {
        TANDEM_RETURN_IF_ERROR(LayerVector(tensor, out));
      } else {
        TANDEM_RETURN_IF_ERROR(LayerMatrices(tensor, out));
      }
    }
    return absl::OkStatus();
  }

  uint64_t bytes_held() const { return bytes_held_; }

 private:
  absl::Status LayerVector(const LayerTensor& tensor, LayerWeights* out) {
    Vector all;
    TANDEM_RETURN_IF_ERROR(ReadVector(tensor.name, &all));
    auto from = all.begin();
    for (const Destination& part : tensor.parts) {
      (out->*part.vector).assign(from, from + part.rows);
      from += part.rows;
    }
    return absl::OkStatus();
  }

  absl::Status LayerMatrices(const LayerTensor& tensor, LayerWeights* out) {
    return Read(tensor.name, [&](const GgufTensor& file_tensor, std::span<const std::byte> bytes) -> absl::Status {
      const uint64_t row_bytes = file_tensor.bytes / file_tensor.rows();
      for (int64_t item = 0; item < tensor.items; ++item) {
        for (const Destination& part : tensor.parts) {
          const std::span<const std::byte> rows = bytes.first(part.rows * row_bytes);
          bytes = bytes.subspan(rows.size());
          TANDEM_RETURN_IF_ERROR(PackPart(file_tensor.type, tensor, part, rows, Target(part, item, tensor, out)));
        }
      }
      return absl::OkStatus();
    });
  }

  static PackedMatrix* Target(const Destination& part, int64_t item, const LayerTensor& tensor, LayerWeights* out) {
    if (part.matrix != nullptr) return &(out->*part.matrix);
    Matrices& matrices = out->*part.matrices;
    const size_t index = part.index + item;
    if (matrices.size() <= index) matrices.resize(std::max<size_t>(index + 1, tensor.items));
    return &matrices[index];
  }

  absl::Status PackPart(TensorType type, const LayerTensor& tensor, const Destination& part,
                        std::span<const std::byte> rows, PackedMatrix* to) {
    if (!part.transposed) return Pack(type, part.rows, tensor.cols, rows, to);
    const TensorType packed_type = PackedType(part, type);
    Vector values(part.rows * tensor.cols), transposed(values.size());
    FindBlockFormat(type)->dequantize(rows.data(), values.data(), values.size());
    for (int64_t r = 0; r < part.rows; ++r) {
      for (int64_t c = 0; c < tensor.cols; ++c) transposed[c * part.rows + r] = values[r * tensor.cols + c];
    }
    const BlockFormat& format = *FindBlockFormat(packed_type);
    std::vector<std::byte> bytes(transposed.size() * format.block_bytes);
    format.quantize(transposed.data(), nullptr, bytes.data(), transposed.size());
    return Pack(packed_type, tensor.cols, part.rows, bytes, to);
  }

  const GgufFile& file_;
  TensorSource& source_;
  ThreadPool& pool_;
  const LoadProgress& progress_;
  const std::function<bool()>& cancelled_;
  uint64_t bytes_done_ = 0, bytes_total_ = 0, bytes_held_ = 0;
};

absl::Status LoadHead(Loader& loader, const ModelSpec& spec, StageWeights* out) {
  TANDEM_RETURN_IF_ERROR(loader.ReadVector(kOutputNormName, &out->output_norm));
  if (spec.row->norm == NormKind::kLayerBias) {
    TANDEM_RETURN_IF_ERROR(loader.ReadVector(kOutputNormBiasName, &out->output_norm_bias));
  }
  return spec.tied_head ? absl::OkStatus() : loader.Matrix(kHeadName, &out->head);
}

}  // namespace

absl::StatusOr<StageWeights> LoadStageWeights(const ModelSpec& spec, const GgufFile& file, TensorSource& source,
                                              int32_t first, int32_t end, ThreadPool& pool,
                                              const LoadProgress& progress, const std::function<bool()>& cancelled) {
  const bool is_first = first == 0, is_last = end == spec.num_layers;
  Loader loader(file, source, pool, progress, cancelled);
  for (const std::string& name : StageTensorNames(spec, file, first, end)) loader.Announce(name);

  StageWeights weights;
  const bool tied_head = is_last && spec.tied_head;
  if (is_first || tied_head) {
    PackedMatrix embedding;
    TANDEM_RETURN_IF_ERROR(loader.Matrix(kEmbeddingName, &embedding));
    if (tied_head) weights.head = embedding;
    if (is_first) weights.embedding = std::move(embedding);
  }
  if (!spec.rope_factors.empty()) TANDEM_RETURN_IF_ERROR(loader.ReadVector(spec.rope_factors, &weights.rope_factors));
  weights.layers.resize(end - first);
  for (int32_t layer = first; layer < end; ++layer) {
    TANDEM_RETURN_IF_ERROR(loader.Layer(LayerTensors(spec, file, layer), &weights.layers[layer - first]));
  }
  if (is_last) TANDEM_RETURN_IF_ERROR(LoadHead(loader, spec, &weights));
  weights.bytes = loader.bytes_held() - weights.rope_factors.size() * sizeof(float);
  return weights;
}

uint64_t StageWeightBytes(const ModelSpec& spec, const GgufFile& file, int32_t first, int32_t end) {
  const ModelCost cost = ComputeModelCost(spec, file);
  uint64_t total = cost.EndBytes(first == 0, end == spec.num_layers);
  for (int32_t layer = first; layer < end; ++layer) total += cost.layers[layer].weight_bytes;
  return total;
}

}  // namespace tandem::engine
