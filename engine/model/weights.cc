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
  // `bytes`: of all weights together.
  Loader(const GgufFile& file, TensorSource& source, uint64_t bytes, ThreadPool& pool, const LoadProgress& progress,
         const std::function<bool()>& cancelled)
      : file_(file), source_(source), memory_(bytes), pool_(pool), progress_(progress), cancelled_(cancelled) {}

  // Counts a tensor into the total that progress is reported against.
  void Announce(absl::string_view name) { bytes_total_ += file_.FindTensor(name)->bytes; }

  absl::Status Matrix(absl::string_view name, PackedMatrix* out) {
    return Load(name, [&](const GgufTensor& tensor) { return Pack(tensor, 0, tensor.rows(), tensor.cols(), out); });
  }

  absl::Status ReadVector(absl::string_view name, Vector* out) {
    return Load(name, [&](const GgufTensor& tensor) {
      const int64_t count = static_cast<int64_t>(tensor.rows() * tensor.cols());
      bytes_held_ += count * sizeof(float);
      return ReadFloats(tensor, 0, count, out);
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
  // Loads a tensor by `load`, with progress and cancellation.
  template <typename Function>
  absl::Status Load(absl::string_view name, Function load) {
    if (cancelled_ && cancelled_()) {
      return absl::CancelledError(absl::StrFormat("loading was cancelled before tensor %s", name));
    }
    const GgufTensor& tensor = *file_.FindTensor(name);
    TANDEM_RETURN_IF_ERROR(load(tensor));
    bytes_done_ += tensor.bytes;
    if (progress_) progress_(bytes_done_, bytes_total_);
    return absl::OkStatus();
  }

  // `rows` rows from byte `offset` on.
  absl::Status Pack(const GgufTensor& tensor, uint64_t offset, int64_t rows, int64_t cols, PackedMatrix* out) {
    const auto read = [&](uint64_t at, std::span<std::byte> to) { return source_.Read(tensor, offset + at, to); };
    TANDEM_ASSIGN_OR_RETURN(*out,
                            PackedMatrix::Pack(tensor.type, rows, cols, {read, source_.concurrent()}, pool_, memory_));
    bytes_held_ += out->bytes();
    return absl::OkStatus();
  }

  // `count` elements from byte `offset` on.
  absl::Status ReadFloats(const GgufTensor& tensor, uint64_t offset, int64_t count, Vector* out) {
    const BlockFormat& format = *FindBlockFormat(tensor.type);
    std::vector<std::byte> bytes(count / format.block_elements * format.block_bytes);
    TANDEM_RETURN_IF_ERROR(source_.Read(tensor, offset, bytes));
    out->resize(count);
    format.dequantize(bytes.data(), out->data(), count);
    return absl::OkStatus();
  }

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
    return Load(tensor.name, [&](const GgufTensor& file_tensor) -> absl::Status {
      const uint64_t row_bytes = file_tensor.bytes / file_tensor.rows();
      uint64_t offset = 0;
      for (int64_t item = 0; item < tensor.items; ++item) {
        for (const Destination& part : tensor.parts) {
          PackedMatrix* to = Target(part, item, tensor, out);
          TANDEM_RETURN_IF_ERROR(part.transposed ? PackTransposed(file_tensor, offset, part, tensor.cols, to)
                                                 : Pack(file_tensor, offset, part.rows, tensor.cols, to));
          offset += part.rows * row_bytes;
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

  absl::Status PackTransposed(const GgufTensor& tensor, uint64_t offset, const Destination& part, int64_t cols,
                              PackedMatrix* to) {
    Vector values, transposed(part.rows * cols);
    TANDEM_RETURN_IF_ERROR(ReadFloats(tensor, offset, part.rows * cols, &values));
    for (int64_t r = 0; r < part.rows; ++r) {
      for (int64_t c = 0; c < cols; ++c) transposed[c * part.rows + r] = values[r * cols + c];
    }
    const TensorType type = PackedType(part, tensor.type);
    const BlockFormat& format = *FindBlockFormat(type);
    std::vector<std::byte> bytes(transposed.size() * format.block_bytes);
    format.quantize(transposed.data(), nullptr, bytes.data(), transposed.size());
    TANDEM_ASSIGN_OR_RETURN(*to, PackedMatrix::Pack(type, cols, part.rows, bytes, pool_));
    bytes_held_ += to->bytes();
    return absl::OkStatus();
  }

  const GgufFile& file_;
  TensorSource& source_;
  WeightMemory memory_;
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
  Loader loader(file, source, StageWeightBytes(spec, file, first, end), pool, progress, cancelled);
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
