#include "engine/model/transformer_block.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_format.h"

namespace tandem::engine {

// Addresses of the pages of one slice, for one layer and key-value head: the form in which the attention kernel takes
// them. One a thread, over that thread's part of the scratch memory.
class TransformerBlock::PageTable {
 public:
  PageTable(const KvPages& kv, int32_t layer, const Step& step, const std::byte** memory)
      : kv_(kv), layer_(layer), step_(step), keys_(memory), values_(memory + kv.shape().num_pages) {}

  // Points the table at another slice and head, if it is not there already.
  void Seek(int32_t slice, int32_t kv_head) {
    if (slice == slice_ && kv_head == kv_head_) return;
    slice_ = slice;
    kv_head_ = kv_head;
    const Slice& s = step_.slices[slice];
    const int64_t end = s.position + static_cast<int64_t>(s.tokens.size());
    const int64_t pages = (end + kv_.shape().page_tokens - 1) / kv_.shape().page_tokens;
    for (int64_t i = 0; i < pages; ++i) {
      keys_[i] = kv_.keys(s.pages[i], layer_, kv_head);
      values_[i] = kv_.values(s.pages[i], layer_, kv_head);
    }
  }
  const std::byte* const* keys() const { return keys_; }
  const std::byte* const* values() const { return values_; }

 private:
  const KvPages& kv_;
  const int32_t layer_;
  const Step& step_;
  const std::byte** keys_;
  const std::byte** values_;
  int32_t slice_ = -1, kv_head_ = -1;
};

TransformerBlock::TransformerBlock(const ModelSpec& spec, const KernelTable& kernels, ThreadPool& pool,
                                   Scratch& scratch, KvPages& kv)
    : spec_(spec),
      kernels_(kernels),
      pool_(pool),
      scratch_(scratch),
      kv_(kv),
      linear_(kernels, scratch),
      attention_scale_(1.0f / std::sqrt(static_cast<float>(spec.head_dim))) {}

absl::Status TransformerBlock::Forward(const LayerWeights& weights, int32_t layer, const Step& step, int64_t tokens) {
  tokens_ = tokens;
  not_finite_.store(false, std::memory_order_relaxed);

  NormRows(weights.attn_norm, {&weights.q, &weights.k, &weights.v});
  ProjectQkv(weights);
  RotateAndStore(layer);
  Attend(layer, step);
  PrepareRows({&weights.output}, scratch_.attention, weights.output.cols());
  ProjectAndAdd(weights.output, scratch_.attention);

  NormRows(weights.ffn_norm, {&weights.gate, &weights.up});
  GateAndUp(weights);
  PrepareRows({&weights.down}, scratch_.gate, weights.down.cols());
  ProjectAndAdd(weights.down, scratch_.gate);

  if (not_finite_.load(std::memory_order_relaxed)) {
    return absl::InternalError("a value inside the layer is infinite or not a number: the weights are broken");
  }
  return absl::OkStatus();
}

void TransformerBlock::ForTokens(absl::FunctionRef<void(int64_t token)> fn) {
  pool_.ParallelFor(tokens_, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t token = begin; token < end; ++token) fn(token);
  });
}

void TransformerBlock::NormRows(const std::vector<float>& norm, const InputForms& forms) {
  const int64_t hidden = spec_.hidden;
  ForTokens([&](int64_t token) {
    kernels_.rms_norm(scratch_.hidden + token * hidden, norm.data(), hidden, spec_.rms_eps,
                      scratch_.normed + token * hidden);
    if (!linear_.PrepareRow(forms, scratch_.normed, token, hidden)) not_finite_.store(true, std::memory_order_relaxed);
  });
}

void TransformerBlock::PrepareRows(const InputForms& forms, const float* input, int64_t cols) {
  ForTokens([&](int64_t token) {
    if (!linear_.PrepareRow(forms, input, token, cols)) not_finite_.store(true, std::memory_order_relaxed);
  });
}

// The row groups of the three matrices form one range, so that all threads are busy to the end.
void TransformerBlock::ProjectQkv(const LayerWeights& weights) {
  struct Part {
    const PackedMatrix& matrix;
    float* output;
  };
  const Part parts[] = {{weights.q, scratch_.q}, {weights.k, scratch_.k}, {weights.v, scratch_.v}};
  const int64_t groups = weights.q.groups() + weights.k.groups() + weights.v.groups();
  pool_.ParallelFor(groups, 1, [&](int64_t begin, int64_t end, int) {
    for (const Part& part : parts) {
      const int64_t part_end = std::min(end, part.matrix.groups());
      if (begin < part_end) {
        linear_.Multiply(part.matrix, scratch_.normed, tokens_, begin, part_end, part.output);
      }
      begin = std::max<int64_t>(0, begin - part.matrix.groups());
      end = std::max<int64_t>(0, end - part.matrix.groups());
    }
  });
}

void TransformerBlock::RotateAndStore(int32_t layer) {
  const int64_t q_width = int64_t{spec_.heads} * spec_.head_dim, kv_width = int64_t{spec_.kv_heads} * spec_.head_dim;
  const int64_t pairs = spec_.rope.dims / 2;
  ForTokens([&](int64_t token) {
    float* q = scratch_.q + token * q_width;
    float* k = scratch_.k + token * kv_width;
    const float* cos = scratch_.rope_cos + token * pairs;
    const float* sin = scratch_.rope_sin + token * pairs;
    kernels_.rope_pairs(q, spec_.heads, spec_.head_dim, spec_.rope.dims, cos, sin);
    kernels_.rope_pairs(k, spec_.kv_heads, spec_.head_dim, spec_.rope.dims, cos, sin);
    const TokenPlace& place = scratch_.places[token];
    kv_.Write(place.page, layer, place.slot, k, scratch_.v + token * kv_width);
  });
}

// Work differs from token to token, since each sees the keys up to its own position, so threads take small portions as
// they go. Heads are the outer order: neighbours read the same keys.
void TransformerBlock::Attend(int32_t layer, const Step& step) {
  const int64_t units = tokens_ * spec_.heads;
  const int64_t portion = std::clamp<int64_t>(units / (8 * pool_.size()), 1, 16);
  const int32_t heads_per_kv = spec_.heads / spec_.kv_heads;
  std::atomic<int64_t> next{0};
  pool_.Run([&](int thread) {
    PageTable pages(kv_, layer, step, scratch_.page_pointers + int64_t{thread} * 2 * kv_.shape().num_pages);
    for (;;) {
      const int64_t begin = next.fetch_add(portion, std::memory_order_relaxed);
      if (begin >= units) return;
      for (int64_t unit = begin; unit < std::min(units, begin + portion); ++unit) {
        const int64_t head = unit / tokens_, token = unit % tokens_;
        pages.Seek(scratch_.places[token].slice, static_cast<int32_t>(head / heads_per_kv));
        AttendHead(token, head, pages);
      }
    }
  });
}

void TransformerBlock::AttendHead(int64_t token, int64_t head, const PageTable& pages) {
  const int64_t offset = (token * spec_.heads + head) * spec_.head_dim;
  kernels_.attention({.q = scratch_.q + offset,
                      .k_pages = pages.keys(),
                      .v_pages = pages.values(),
                      .kv_f16 = kv_.shape().type == KvType::kF16,
                      .page_tokens = kv_.shape().page_tokens,
                      .num_keys = scratch_.places[token].position + 1,
                      .head_dim = spec_.head_dim,
                      .scale = attention_scale_,
                      .out = scratch_.attention + offset});
}

// A thread adds the columns that it computed itself, so no thread waits for another.
void TransformerBlock::ProjectAndAdd(const PackedMatrix& weights, const float* input) {
  pool_.ParallelFor(weights.groups(), 1, [&](int64_t begin, int64_t end, int) {
    linear_.Multiply(weights, input, tokens_, begin, end, scratch_.projected);
    const int64_t first = begin * kRowGroup, count = std::min(end * kRowGroup, weights.rows()) - first;
    for (int64_t token = 0; token < tokens_; ++token) {
      const int64_t offset = token * weights.rows() + first;
      kernels_.add(scratch_.projected + offset, count, scratch_.hidden + offset);
    }
  });
}

void TransformerBlock::GateAndUp(const LayerWeights& weights) {
  pool_.ParallelFor(weights.gate.groups(), 1, [&](int64_t begin, int64_t end, int) {
    linear_.Multiply(weights.gate, scratch_.normed, tokens_, begin, end, scratch_.gate);
    linear_.Multiply(weights.up, scratch_.normed, tokens_, begin, end, scratch_.up);
    const int64_t first = begin * kRowGroup, count = std::min(end * kRowGroup, weights.gate.rows()) - first;
    for (int64_t token = 0; token < tokens_; ++token) {
      float* gate = scratch_.gate + token * weights.gate.rows() + first;
      kernels_.silu_mul(gate, scratch_.up + token * weights.up.rows() + first, count, gate);
    }
  });
}

}  // namespace tandem::engine
