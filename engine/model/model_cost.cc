#include <cmath>

#include "engine/cpu/packed_matrix.h"
#include "engine/model/model_layout.h"

namespace tandem::engine {
namespace {

uint64_t PackedBytes(TensorType type, int64_t rows, int64_t cols) {
  return PackedGroupBytes(type, cols) * ((rows + kRowGroup - 1) / kRowGroup);
}

void AddCost(const LayerTensor& tensor, TensorType type, const ExpertSpec& experts, PartCost* cost) {
  for (const Destination& part : tensor.parts) {
    if (part.vector != nullptr) {
      cost->weight_bytes += part.rows * sizeof(float);
      continue;
    }
    const int64_t rows = part.transposed ? tensor.cols : part.rows;
    const int64_t cols = part.transposed ? part.rows : tensor.cols;
    const uint64_t bytes = tensor.items * PackedBytes(PackedType(part, type), rows, cols);
    const uint64_t macs = static_cast<uint64_t>(tensor.items) * rows * cols;
    cost->weight_bytes += bytes;
    if (tensor.is_expert()) {
      cost->expert_bytes += bytes;
      cost->macs_per_token += macs / experts.count * experts.used;
    } else {
      cost->macs_per_token += macs;
    }
  }
}

}  // namespace

double PartCost::ReadBytes(int32_t tokens) const {
  const double untouched = std::pow(1.0 - expert_share, tokens);
  return static_cast<double>(weight_bytes) - static_cast<double>(expert_bytes) * untouched;
}

ModelCost ComputeModelCost(const ModelSpec& spec, const GgufFile& file) {
  ModelCost cost;
  cost.layers.resize(spec.num_layers);
  for (int32_t layer = 0; layer < spec.num_layers; ++layer) {
    PartCost& to = cost.layers[layer];
    if (spec.layers[layer].ffn == 0) to.expert_share = static_cast<double>(spec.experts.used) / spec.experts.count;
    for (const LayerTensor& tensor : LayerTensors(spec, file, layer)) {
      AddCost(tensor, file.FindTensor(tensor.name)->type, spec.experts, &to);
    }
  }
  const GgufTensor& embedding = *file.FindTensor(kEmbeddingName);
  const GgufTensor& head = spec.tied_head ? embedding : *file.FindTensor(kHeadName);
  const int64_t norm_vectors = spec.row->norm == NormKind::kLayerBias ? 2 : 1;
  cost.embedding.weight_bytes = PackedBytes(embedding.type, spec.vocab, spec.hidden);
  cost.tied_bytes = spec.tied_head ? cost.embedding.weight_bytes : 0;
  cost.head.weight_bytes = PackedBytes(head.type, spec.vocab, spec.hidden) + norm_vectors * spec.hidden * sizeof(float);
  cost.head.macs_per_token = int64_t{spec.vocab} * spec.hidden;
  cost.kv_elements_per_token_layer = spec.kv.elements();
  return cost;
}

}  // namespace tandem::engine
