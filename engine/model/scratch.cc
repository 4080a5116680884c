#include "engine/model/scratch.h"

#include <algorithm>
#include <cstring>
#include <new>

#include "engine/cpu/kernel_table.h"
#include "engine/model/model_layout.h"

namespace tandem::engine {
namespace {

constexpr std::align_val_t kAlignment{64};
// Rows that go through the head at a time: bounds the logits in memory, and is enough to reuse each weight well.
constexpr int64_t kLogitRows = 32;

// Hands out memory in order; with a null base it only counts.
class Cursor {
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

void NoteInput(TensorType type, int64_t cols, ScratchShape* shape) {
  switch (ActivationKindFor(type)) {
    case ActivationKind::kF32:
      return;
    case ActivationKind::kInt8Block32:
      shape->int8_block32_cols = std::max(shape->int8_block32_cols, cols);
      return;
    case ActivationKind::kInt8Block256:
      shape->int8_block256_cols = std::max(shape->int8_block256_cols, cols);
      return;
  }
}

void TakeInt8(int64_t tokens, int64_t cols, int64_t block, Cursor* cursor, Int8Rows* rows) {
  cursor->Take(tokens * cols, &rows->q);
  cursor->Take(tokens * (cols / block), &rows->scale);
  cursor->Take(tokens * (cols / 16), &rows->sum16);
}

}  // namespace

ScratchShape ScratchShape::Of(const ModelSpec& spec, const GgufFile& file, const StageOptions& options, int threads) {
  ScratchShape shape;
  shape.tokens = options.max_step_tokens;
  shape.hidden = spec.hidden;
  shape.q_width = int64_t{spec.heads} * spec.head_dim;
  shape.kv_width = int64_t{spec.kv_heads} * spec.head_dim;
  shape.ffn = spec.ffn;
  shape.rope_pairs = spec.rope.dims / 2;
  shape.threads = threads;
  shape.num_pages = options.num_pages;
  for (int32_t layer = options.first_layer; layer < options.end_layer; ++layer) {
    for (const LayerPart& part : LayerParts(spec)) {
      if (part.is_matrix) NoteInput(file.FindTensor(LayerTensorName(layer, part.name))->type, part.cols, &shape);
    }
  }
  if (options.end_layer == spec.num_layers) {
    shape.vocab = spec.vocab;
    shape.logit_rows = std::min<int64_t>(kLogitRows, shape.tokens);
    NoteInput(file.FindTensor(spec.tied_head ? kEmbeddingName : kHeadName)->type, spec.hidden, &shape);
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

uint64_t Scratch::LayOut(const ScratchShape& shape, std::byte* base) {
  Cursor cursor(base);
  const int64_t tokens = shape.tokens;
  cursor.Take(tokens * shape.hidden, &hidden);
  cursor.Take(tokens * shape.hidden, &normed);
  cursor.Take(tokens * shape.q_width, &q);
  cursor.Take(tokens * shape.kv_width, &k);
  cursor.Take(tokens * shape.kv_width, &v);
  cursor.Take(tokens * shape.q_width, &attention);
  cursor.Take(tokens * shape.hidden, &projected);
  cursor.Take(tokens * shape.ffn, &gate);
  cursor.Take(tokens * shape.ffn, &up);
  cursor.Take(tokens * shape.rope_pairs, &rope_cos);
  cursor.Take(tokens * shape.rope_pairs, &rope_sin);
  cursor.Take(shape.logit_rows * shape.vocab, &logits);
  TakeInt8(tokens, shape.int8_block32_cols, 32, &cursor, &int8_block32);
  TakeInt8(tokens, shape.int8_block256_cols, 256, &cursor, &int8_block256);
  cursor.Take(tokens, &places);
  cursor.Take(shape.threads * 2 * shape.num_pages, &page_pointers);
  cursor.Take(shape.num_pages, &page_written_in);
  return cursor.used();
}

}  // namespace tandem::engine
