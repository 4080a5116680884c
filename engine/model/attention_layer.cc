#include "engine/model/attention_layer.h"

#include <algorithm>
#include <atomic>

namespace tandem::engine {

// Addresses of the pages of one slice, for one layer and key-value head: the form in which the attention kernel takes
// them. One a thread, over that thread's part of the scratch memory.
class AttentionLayer::PageTable {
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

void AttentionLayer::ProjectAndStore(const LayerWeights& weights, const LayerSpec& spec, int32_t layer) {
  if (context_.spec.kv_rank > 0) {
    ProjectCompressed(weights);
    StoreCompressed(weights, spec, layer);
  } else {
    ProjectPlain(weights);
    RotateAndStore(weights, spec, layer);
  }
}

const float* AttentionLayer::Attend(const LayerWeights& weights, const LayerSpec& spec, int32_t layer,
                                    const Step& step) {
  AttendHeads(weights, spec, layer, step);
  const float* result = context_.scratch.attention;
  if (context_.spec.kv_rank > 0) {
    ExpandValues(weights);
    result = context_.scratch.values;
  }
  context_.PrepareRows({&weights.output}, result, context_.tokens, weights.output.cols());
  return result;
}

void AttentionLayer::ProjectPlain(const LayerWeights& weights) {
  const Scratch& scratch = context_.scratch;
  context_.Project({{weights.q, weights.q_bias, scratch.q},
                    {weights.k, weights.k_bias, scratch.k},
                    {weights.v, weights.v_bias, scratch.v}},
                   scratch.normed);
}

void AttentionLayer::RotateAndStore(const LayerWeights& weights, const LayerSpec& spec, int32_t layer) {
  const ModelSpec& model = context_.spec;
  const Scratch& scratch = context_.scratch;
  const int64_t q_width = weights.q.rows(), k_width = weights.k.rows(), v_width = weights.v.rows();
  context_.ForTokens([&](int64_t token) {
    float* q = scratch.q + token * q_width;
    float* k = scratch.k + token * k_width;
    NormHeads(weights.q_norm, model.heads, q);
    NormHeads(weights.k_norm, model.kv_heads, k);
    Rotate(spec, token, model.heads, model.head_dim, q);
    Rotate(spec, token, model.kv_heads, model.head_dim, k);
    const TokenPlace& place = scratch.places[token];
    kv_.Write(place.page, layer, place.slot, k, scratch.v + token * v_width);
  });
}

void AttentionLayer::NormHeads(const Vector& norm, int32_t heads, float* x) const {
  if (norm.empty()) return;
  const int64_t dim = context_.spec.head_dim, size = static_cast<int64_t>(norm.size());
  if (context_.spec.row->qk_norm == QkNorm::kRow) return context_.Norm(norm.data(), nullptr, x, size, x);
  for (int64_t head = 0; head < heads; ++head) {
    const float* weight = norm.data() + (size > dim ? head * dim : 0);
    context_.Norm(weight, nullptr, x + head * dim, dim, x + head * dim);
  }
}

void AttentionLayer::Rotate(const LayerSpec& spec, int64_t token, int32_t heads, int32_t stride, float* x) const {
  if (!spec.rotates) return;
  const Scratch::Rotations& rotations = context_.scratch.rotations[spec.window > 0 && context_.spec.two_ropes ? 1 : 0];
  const int32_t dims = context_.spec.rope.dims;
  const int64_t offset = token * (dims / 2);
  const auto rope =
      context_.spec.row->rope == RopeKind::kPairs ? context_.kernels.rope_pairs : context_.kernels.rope_halves;
  rope(x, heads, stride, dims, rotations.cos + offset, rotations.sin + offset);
}

void AttentionLayer::ProjectCompressed(const LayerWeights& weights) {
  const Scratch& scratch = context_.scratch;
  if (weights.q_a.empty()) {
    context_.Project({{weights.q, kNoBias, scratch.query}, {weights.kv_a, kNoBias, scratch.k}}, scratch.normed);
    return;
  }
  const int64_t rank = context_.spec.q_rank;
  context_.Project({{weights.q_a, kNoBias, scratch.latent}, {weights.kv_a, kNoBias, scratch.k}}, scratch.normed);
  context_.ForTokens([&](int64_t token) {
    float* latent = scratch.latent + token * rank;
    context_.Norm(weights.q_a_norm.data(), nullptr, latent, rank, latent);
    context_.PrepareRow({&weights.q}, latent, token, rank);
  });
  context_.Project({{weights.q, kNoBias, scratch.query}}, scratch.latent);
}

// Queries are put together head by head: [unrotated part in the space of c, rotated part]. The unrotated parts are
// gathered so that each head's are the rows of one product.
void AttentionLayer::StoreCompressed(const LayerWeights& weights, const LayerSpec& spec, int32_t layer) {
  const ModelSpec& model = context_.spec;
  const Scratch& scratch = context_.scratch;
  const int64_t rank = model.kv_rank, heads = model.heads, head_dim = model.head_dim, row = model.query_dim();
  const int64_t rotated = model.rope.dims, unrotated = head_dim - rotated, tokens = context_.tokens;
  const InputForms forms(weights.k_b);
  context_.ForTokens([&](int64_t token) {
    float* key = scratch.k + token * row;
    context_.Norm(weights.kv_a_norm.data(), nullptr, key, rank, key);
    Rotate(spec, token, 1, static_cast<int32_t>(row), key + rank);
    const TokenPlace& place = scratch.places[token];
    kv_.Write(place.page, layer, place.slot, key, nullptr);
    float* query = scratch.query + token * heads * head_dim;
    Rotate(spec, token, model.heads, model.head_dim, query + unrotated);
    for (int64_t head = 0; head < heads; ++head, query += head_dim) {
      float* gathered = scratch.head_rows + (head * tokens + token) * unrotated;
      std::copy_n(query, unrotated, gathered);
      context_.PrepareRow(forms, gathered, head * tokens + token, unrotated);
      std::copy_n(query + unrotated, rotated, scratch.q + (token * heads + head) * row + rank);
    }
  });
  const auto run = [&](int64_t head) -> MatrixRun {
    return {&weights.k_b[head], head * tokens, tokens, scratch.q + head * row, heads * row};
  };
  context_.MultiplyRuns(heads, run, scratch.head_rows);
}

void AttentionLayer::ExpandValues(const LayerWeights& weights) {
  const ModelSpec& model = context_.spec;
  const Scratch& scratch = context_.scratch;
  const int64_t heads = model.heads, dim = model.value_dim, tokens = context_.tokens;
  context_.PrepareRows(InputForms(weights.v_b), scratch.attention, heads * tokens, model.kv_rank);
  const auto run = [&](int64_t head) -> MatrixRun {
    return {&weights.v_b[head], head * tokens, tokens, scratch.values + head * dim, heads * dim};
  };
  context_.MultiplyRuns(heads, run, scratch.attention);
}

// Work differs from token to token, since each sees the keys up to its own position, so threads take small portions as
// they go. Heads are the outer order: neighbours read the same keys.
void AttentionLayer::AttendHeads(const LayerWeights& weights, const LayerSpec& spec, int32_t layer, const Step& step) {
  const ModelSpec& model = context_.spec;
  Scratch& scratch = context_.scratch;
  ThreadPool& pool = context_.pool;
  const int64_t tokens = context_.tokens, units = tokens * model.heads;
  const int64_t portion = std::clamp<int64_t>(units / (8 * pool.size()), 1, 16);
  const int32_t heads_per_kv = model.heads / model.kv.heads;
  std::atomic<int64_t> next{0};
  pool.Run([&](int thread) {
    PageTable pages(kv_, layer, step, scratch.page_pointers + int64_t{thread} * 2 * kv_.shape().num_pages);
    for (;;) {
      const int64_t begin = next.fetch_add(portion, std::memory_order_relaxed);
      if (begin >= units) return;
      for (int64_t unit = begin; unit < std::min(units, begin + portion); ++unit) {
        const int64_t head = unit / tokens, token = unit % tokens;
        pages.Seek(scratch.places[token].slice, static_cast<int32_t>(head / heads_per_kv));
        AttendHead(weights, spec, token, head, pages);
      }
    }
  });
}

void AttentionLayer::AttendHead(const LayerWeights& weights, const LayerSpec& spec, int64_t token, int64_t head,
                                const PageTable& pages) {
  const ModelSpec& model = context_.spec;
  const Scratch& scratch = context_.scratch;
  const int32_t keys = scratch.places[token].position + 1;
  // Compressed results are gathered by head, as the rows of a product; others by token.
  const int64_t place = model.kv_rank > 0 ? head * context_.tokens + token : token * model.heads + head;
  context_.kernels.attention({.q = scratch.q + (token * model.heads + head) * model.query_dim(),
                              .k_pages = pages.keys(),
                              .v_pages = pages.values(),
                              .kv_f16 = kv_.shape().type == KvType::kF16,
                              .page_tokens = kv_.shape().page_tokens,
                              .first_key = spec.window > 0 ? std::max(0, keys - spec.window) : 0,
                              .num_keys = keys,
                              .key_dim = model.query_dim(),
                              .value_dim = model.result_dim(),
                              .key_stride = kv_.shape().key_dim,
                              .value_stride = kv_.value_stride(),
                              .scale = model.attention_scale,
                              .cap = model.attention_cap,
                              .sink = weights.sinks.empty() ? nullptr : &weights.sinks[head],
                              .out = scratch.attention + place * model.result_dim()});
}

}  // namespace tandem::engine
