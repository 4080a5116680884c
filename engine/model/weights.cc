#include "engine/model/weights.h"

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

  absl::Status Pack(const GgufTensor& tensor, std::span<const std::byte> bytes, PackedMatrix* out) {
    TANDEM_ASSIGN_OR_RETURN(*out, PackedMatrix::Pack(tensor.type, tensor.rows(), tensor.cols(), bytes, pool_));
    return absl::OkStatus();
  }

  absl::Status Matrix(absl::string_view name, PackedMatrix* out) {
    return Read(name, [&](const GgufTensor& tensor, auto bytes) { return Pack(tensor, bytes, out); });
  }

  absl::Status Vector(absl::string_view name, std::vector<float>* out) {
    return Read(name, [&](const GgufTensor& tensor, std::span<const std::byte> bytes) {
      out->resize(tensor.cols());
      FindBlockFormat(tensor.type)->dequantize(bytes.data(), out->data(), out->size());
      return absl::OkStatus();
    });
  }

 private:
  const GgufFile& file_;
  TensorSource& source_;
  ThreadPool& pool_;
  const LoadProgress& progress_;
  const std::function<bool()>& cancelled_;
  uint64_t bytes_done_ = 0, bytes_total_ = 0;
};

absl::Status LoadLayer(Loader& loader, int32_t layer, LayerWeights* out) {
  const auto matrix = [&](absl::string_view part, PackedMatrix* to) {
    return loader.Matrix(LayerTensorName(layer, part), to);
  };
  const auto vector = [&](absl::string_view part, std::vector<float>* to) {
    return loader.Vector(LayerTensorName(layer, part), to);
  };
  TANDEM_RETURN_IF_ERROR(vector("attn_norm", &out->attn_norm));
  TANDEM_RETURN_IF_ERROR(matrix("attn_q", &out->q));
  TANDEM_RETURN_IF_ERROR(matrix("attn_k", &out->k));
  TANDEM_RETURN_IF_ERROR(matrix("attn_v", &out->v));
  TANDEM_RETURN_IF_ERROR(matrix("attn_output", &out->output));
  TANDEM_RETURN_IF_ERROR(vector("ffn_norm", &out->ffn_norm));
  TANDEM_RETURN_IF_ERROR(matrix("ffn_gate", &out->gate));
  TANDEM_RETURN_IF_ERROR(matrix("ffn_up", &out->up));
  return matrix("ffn_down", &out->down);
}

// The embedding serves the first stage as a table and, where the head is tied to it, the last one as a matrix.
absl::Status LoadEmbedding(Loader& loader, bool as_table, bool as_head, StageWeights* out) {
  return loader.Read(kEmbeddingName, [&](const GgufTensor& tensor, std::span<const std::byte> bytes) {
    if (as_table) {
      out->embedding = {tensor.type, static_cast<int64_t>(tensor.cols()), {bytes.begin(), bytes.end()}};
    }
    return as_head ? loader.Pack(tensor, bytes, &out->head) : absl::OkStatus();
  });
}

}  // namespace

uint64_t LayerWeights::bytes() const {
  uint64_t total = (attn_norm.size() + ffn_norm.size()) * sizeof(float);
  for (const PackedMatrix* matrix : {&q, &k, &v, &output, &gate, &up, &down}) total += matrix->bytes();
  return total;
}

void EmbeddingTable::Lookup(int32_t token, float* out) const {
  const BlockFormat& format = *FindBlockFormat(type);
  const int64_t row_bytes = cols / format.block_elements * format.block_bytes;
  format.dequantize(table.data() + token * row_bytes, out, cols);
}

uint64_t StageWeights::bytes() const {
  uint64_t total = embedding.table.size() + output_norm.size() * sizeof(float) + head.bytes();
  for (const LayerWeights& layer : layers) total += layer.bytes();
  return total;
}

absl::StatusOr<StageWeights> LoadStageWeights(const ModelSpec& spec, const GgufFile& file, TensorSource& source,
                                              int32_t first, int32_t end, ThreadPool& pool,
                                              const LoadProgress& progress, const std::function<bool()>& cancelled) {
  const bool is_first = first == 0, is_last = end == spec.num_layers;
  const bool needs_embedding = is_first || (is_last && spec.tied_head);
  const bool has_rope_factors = file.FindTensor(kRopeFactorsName) != nullptr;
  Loader loader(file, source, pool, progress, cancelled);
  if (needs_embedding) loader.Announce(kEmbeddingName);
  if (has_rope_factors) loader.Announce(kRopeFactorsName);
  for (int32_t layer = first; layer < end; ++layer) {
    for (const LayerPart& part : LayerParts(spec)) loader.Announce(LayerTensorName(layer, part.name));
  }
  if (is_last) loader.Announce(kOutputNormName);
  if (is_last && !spec.tied_head) loader.Announce(kHeadName);

  StageWeights weights;
  if (needs_embedding) {
    TANDEM_RETURN_IF_ERROR(LoadEmbedding(loader, is_first, is_last && spec.tied_head, &weights));
  }
  if (has_rope_factors) TANDEM_RETURN_IF_ERROR(loader.Vector(kRopeFactorsName, &weights.rope_factors));
  weights.layers.resize(end - first);
  for (int32_t layer = first; layer < end; ++layer) {
    TANDEM_RETURN_IF_ERROR(LoadLayer(loader, layer, &weights.layers[layer - first]));
  }
  if (is_last) TANDEM_RETURN_IF_ERROR(loader.Vector(kOutputNormName, &weights.output_norm));
  if (is_last && !spec.tied_head) TANDEM_RETURN_IF_ERROR(loader.Matrix(kHeadName, &weights.head));
  return weights;
}

uint64_t StageWeightBytes(const ModelSpec& spec, const GgufFile& file, int32_t first, int32_t end) {
  const ModelCost cost = ComputeModelCost(spec, file);
  uint64_t total = 0;
  if (first == 0) total += cost.embedding.weight_bytes;
  for (int32_t layer = first; layer < end; ++layer) total += cost.layers[layer].weight_bytes;
  if (end == spec.num_layers) total += cost.head.weight_bytes;
  return total;
}

}  // namespace tandem::engine
