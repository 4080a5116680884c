#include "engine/model/scratch.h"

#include <algorithm>
#include <cstring>
#include <new>

#include "engine/cache/kv_format.h"
#include "engine/cpu/kernel_table.h"
#include "engine/model/model_layout.h"

namespace tandem::engine {
namespace {

constexpr std::align_val_t kAlignment{64};
// Rows that go through the head at a time: bounds the logits in memory, and is enough to reuse each weight well.
constexpr int64_t kLogitRows = 32;

}  // namespace

// Hands out memory in order; with a null base it only counts.
class Scratch::Cursor {
 public:
  explicit Cursor(std::byte* base) : base_(base) {}
  template <typename T>
  void Take(int64_t count, T** out) {
    *out = base_ != nullptr && count > 0 ? reinterpret_cast<T*>(base_ + used_) : nullptr;
    used_ += (static_cast<uint64_t>(count) * sizeof(T) + 63) / 64 * 64;
  }
  uint64_t used() const { return used_; }

 private:
  std::byte* base_;
  uint64_t used_ = 0;
};

namespace {

// Elements of an input that a matrix of `type` takes.
void NoteInput(TensorType type, int64_t elements, ScratchShape* shape) {
  switch (ActivationKindFor(type)) {
    case ActivationKind::kF32:
      return;
    case ActivationKind::kInt8Block32:
      shape->int8_block32 = std::max(shape->int8_block32, elements);
      return;
    case ActivationKind::kInt8Block256:
      shape->int8_block256 = std::max(shape->int8_block256, elements);
      return;
  }
}

void NoteInputs(const LayerTensor& tensor, TensorType type, const ModelSpec& spec, ScratchShape* shape) {
  for (const Destination& part : tensor.parts) {
    if (part.vector != nullptr) continue;
    const TensorType packed = PackedType(part, type);
    int64_t rows = shape->tokens;
    if (tensor.is_expert()) {
      rows *= spec.experts.used;
      if (ActivationKindFor(packed) == ActivationKind::kF32) shape->expert_input_rows = shape->expert_rows;
    } else if (part.matrices != nullptr) {
      rows *= tensor.items;  // heads
    }
    NoteInput(packed, rows * (part.transposed ? part.rows : tensor.cols), shape);
  }
}

// Widths that depend on the form of attention.
void SetAttentionWidths(const ModelSpec& spec, ScratchShape* shape) {
  const int64_t heads = spec.heads;
  shape->q_width = heads * spec.query_dim();
  shape->k_width = int64_t{spec.kv.heads} * spec.kv.key_dim;
  shape->v_width = int64_t{spec.kv.heads} * spec.kv.value_dim;
  shape->result_width = heads * spec.result_dim();
  shape->rope_pairs = spec.rope.dims / 2;
  shape->ropes = spec.two_ropes ? 2 : 1;
  if (spec.kv_rank == 0) return;
  shape->query_width = heads * spec.head_dim;
  shape->q_rank = spec.q_rank;
  shape->unrotated = heads * (spec.head_dim - spec.rope.dims);
  shape->values = heads * spec.value_dim;
}

}  // namespace

ScratchShape ScratchShape::Of(const ModelSpec& spec, const GgufFile& file, const StageOptions& options,
                              std::span<const AdapterSpec> adapters) {
  ScratchShape shape;
  shape.tokens = options.max_step_tokens;
  shape.hidden = spec.hidden;
  SetAttentionWidths(spec, &shape);
  if (FindKvFormat(options.kv_type).int8_queries()) shape.int8_q = shape.tokens * shape.q_width;
  shape.num_pages = options.num_pages;
  int64_t ffn = 0;  // of a token
  for (int32_t layer = options.first_layer; layer < options.end_layer; ++layer) {
    if (spec.layers[layer].ffn > 0) {
      ffn = std::max<int64_t>(ffn, spec.layers[layer].ffn);
    } else {
      ffn = std::max({ffn, int64_t{spec.experts.used} * spec.experts.ffn, int64_t{spec.experts.shared_ffn}});
      shape.expert_count = spec.experts.count;
      shape.expert_groups = spec.experts.groups;
      shape.expert_rows = shape.tokens * spec.experts.used;
    }
    for (const LayerTensor& tensor : LayerTensors(spec, file, layer)) {
      NoteInputs(tensor, file.FindTensor(tensor.name)->type, spec, &shape);
    }
  }
  shape.ffn_elements = shape.tokens * ffn;
  for (const AdapterSpec& adapter : adapters) {
    for (const AdaptedTensor& tensor : adapter.tensors) {
      if (tensor.layer < options.first_layer || tensor.layer >= options.end_layer) continue;
      shape.adapter_rank = std::max(shape.adapter_rank, tensor.rank);
      for (const Destination& part : tensor.base.parts) shape.adapter_rows = std::max(shape.adapter_rows, part.rows);
    }
  }
  if (options.end_layer == spec.num_layers) {
    shape.vocab = spec.vocab;
    shape.logit_rows = std::min<int64_t>(kLogitRows, shape.tokens);
    NoteInput(file.FindTensor(spec.tied_head ? kEmbeddingName : kHeadName)->type, shape.logit_rows * spec.hidden,
              &shape);
  }
  return shape;
}

Scratch::Scratch(const ScratchShape& shape) : bytes_(BytesFor(shape)) {
  memory_.reset(static_cast<std::byte*>(::operator new[](bytes_, kAlignment)));
  std::memset(memory_.get(), 0, bytes_);
  LayOut(shape, memory_.get());
}

void Scratch::FreeAligned::operator()(std::byte* p) const { ::operator delete[](p, kAlignment); }

uint64_t Scratch::BytesFor(const ScratchShape& shape) { return Scratch().LayOut(shape, nullptr); }

void Scratch::TakeInt8(int64_t elements, int64_t block, Cursor* cursor, Int8Rows* rows) {
  cursor->Take(elements, &rows->q);
  cursor->Take(elements / block, &rows->scale);
  cursor->Take(elements / 16, &rows->sum16);
}

void Scratch::LayOutExperts(const ScratchShape& shape, Cursor* cursor) {
  cursor->Take(shape.tokens * shape.expert_count, &expert_scores);
  cursor->Take(shape.tokens * (shape.expert_count + shape.expert_groups), &expert_selection);
  cursor->Take(shape.expert_rows, &expert_weights);
  cursor->Take(shape.expert_input_rows * shape.hidden, &expert_input);
  cursor->Take(shape.expert_rows * shape.hidden, &expert_output);
  cursor->Take(shape.expert_rows, &expert_ids);
  cursor->Take(shape.expert_rows, &expert_rows);
  cursor->Take(shape.expert_rows, &row_tokens);
  cursor->Take(shape.expert_count > 0 ? shape.expert_count + 1 : 0, &expert_begin);
  cursor->Take(shape.expert_count, &active_experts);
}

uint64_t Scratch::LayOut(const ScratchShape& shape, std::byte* base) {
  Cursor cursor(base);
  const int64_t tokens = shape.tokens;
  cursor.Take(tokens * shape.hidden, &hidden);
  cursor.Take(tokens * shape.hidden, &normed);
  cursor.Take(tokens * shape.q_width, &q);
  cursor.Take(tokens * shape.k_width, &k);
  cursor.Take(tokens * shape.v_width, &v);
  cursor.Take(tokens * shape.result_width, &attention);
  cursor.Take(tokens * shape.hidden, &projected);
  cursor.Take(shape.ffn_elements, &gate);
  cursor.Take(shape.ffn_elements, &up);
  cursor.Take(shape.logit_rows * shape.vocab, &logits);
  for (int64_t i = 0; i < shape.ropes; ++i) {
    cursor.Take(tokens * shape.rope_pairs, &rotations[i].cos);
    cursor.Take(tokens * shape.rope_pairs, &rotations[i].sin);
  }
  cursor.Take(tokens * shape.query_width, &query);
  cursor.Take(tokens * shape.q_rank, &latent);
  cursor.Take(tokens * shape.unrotated, &head_rows);
  cursor.Take(tokens * shape.values, &values);
  LayOutExperts(shape, &cursor);
  cursor.Take(tokens * shape.adapter_rank, &adapter_low);
  cursor.Take(tokens * shape.adapter_rows, &adapter_added);
  TakeInt8(shape.int8_block32, 32, &cursor, &int8_block32);
  TakeInt8(shape.int8_block256, 256, &cursor, &int8_block256);
  TakeInt8(shape.int8_q, 32, &cursor, &int8_q);
  cursor.Take(tokens, &places);
  cursor.Take(tokens, &attention_runs);
  cursor.Take(shape.num_pages, &page_written_in);
  return cursor.used();
}

}  // namespace tandem::engine
