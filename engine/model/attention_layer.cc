#include "engine/model/attention_layer.h"

#include <algorithm>
#include <atomic>

namespace tandem::engine {

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

// Queries that share keys are computed together: the heads of a KV head's group, for some consecutive tokens of a
// slice. Work differs from one to the next, since each token sees the keys up to its own position, so threads take them
// as they go. KV heads are the outer order: neighbours read the same keys.
void AttentionLayer::AttendHeads(const LayerWeights& weights, const LayerSpec& spec, int32_t layer, const Step& step) {
  const ModelSpec& model = context_.spec;
  ThreadPool& pool = context_.pool;
  const int64_t group = model.heads / model.kv.heads;
  int64_t heads = std::min<int64_t>(group, kMaxAttentionQueries), run_tokens = kMaxAttentionQueries / heads;
  int64_t runs = 0;
  // How queries are divided has no influence on their results: small enough that all threads have work.
  for (;;) {
    runs = MakeRuns(step, run_tokens);
    const int64_t units = runs * model.kv.heads * ((group + heads - 1) / heads);
    if (pool.size() == 1 || units >= int64_t{4} * pool.size()) break;
    if (run_tokens > 1 && runs < context_.tokens) {
      run_tokens /= 2;
    } else if (heads > 1 && units < pool.size()) {
      heads = (heads + 1) / 2;
    } else {
      break;
    }
  }
  const int64_t parts = (group + heads - 1) / heads, units = model.kv.heads * parts * runs;
  std::atomic<int64_t> next{0};
  pool.Run([&](int) {
    for (;;) {
      const int64_t unit = next.fetch_add(1, std::memory_order_relaxed);
      if (unit >= units) return;
      const int64_t kv_head = unit / (parts * runs), part = unit / runs % parts;
      const int64_t first = kv_head * group + part * heads, end = std::min(first + heads, (kv_head + 1) * group);
      AttendRun(weights, spec, layer, step, context_.scratch.attention_runs[unit % runs], {first, end});
    }
  });
}

int64_t AttentionLayer::MakeRuns(const Step& step, int64_t run_tokens) {
  int64_t runs = 0, token = 0;
  for (const Slice& slice : step.slices) {
    const int64_t end = token + static_cast<int64_t>(slice.tokens.size());
    for (; token < end; token += context_.scratch.attention_runs[runs++].count) {
      context_.scratch.attention_runs[runs] = {static_cast<int32_t>(token),
                                               static_cast<int32_t>(std::min(run_tokens, end - token))};
    }
  }
  return runs;
}

Activations AttentionLayer::QuantizeQuery(int64_t row) const {
  if (!FindKvFormat(kv_.shape().type).int8_queries()) return {};
  const Int8Rows& to = context_.scratch.int8_q;
  const int64_t dim = context_.spec.query_dim();
  int8_t* q = to.q + row * dim;
  float* scale = to.scale + row * (dim / 32);
  int32_t* sum16 = to.sum16 + row * (dim / 16);
  context_.kernels.quantize_block32(context_.scratch.q + row * dim, dim, q, scale, sum16);
  return {.q = q, .scale = scale, .sum16 = sum16};
}

void AttentionLayer::AttendRun(const LayerWeights& weights, const LayerSpec& spec, int32_t layer, const Step& step,
                               const TokenRun& run, HeadRange heads) {
  const ModelSpec& model = context_.spec;
  const Scratch& scratch = context_.scratch;
  AttentionQuery queries[kMaxAttentionQueries];
  int count = 0;
  for (int64_t token = run.first; token < run.first + run.count; ++token) {
    const int32_t keys = scratch.places[token].position + 1;
    for (int64_t head = heads.first; head < heads.end; ++head) {
      // Compressed results are gathered by head, as the rows of a product; others by token.
      const int64_t place = model.kv_rank > 0 ? head * context_.tokens + token : token * model.heads + head;
      const int64_t row = token * model.heads + head;
      queries[count++] = {.q = scratch.q + row * model.query_dim(),
                          .int8 = QuantizeQuery(row),
                          .out = scratch.attention + place * model.result_dim(),
                          .sink = weights.sinks.empty() ? nullptr : &weights.sinks[head],
                          .first_key = spec.window > 0 ? std::max(0, keys - spec.window) : 0,
                          .num_keys = keys};
    }
  }
  const int32_t kv_head = static_cast<int32_t>(heads.first / (model.heads / model.kv.heads));
  context_.kernels.attention({.queries = queries,
                              .count = count,
                              .keys = kv_.keys(layer, kv_head),
                              .values = kv_.values(layer, kv_head),
                              .page_bytes = kv_.page_bytes(),
                              .pages = step.slices[scratch.places[run.first].slice].pages.data(),
                              .page_tokens = kv_.shape().page_tokens,
                              .type = kv_.shape().type,
                              .key_dim = model.query_dim(),
                              .value_dim = model.result_dim(),
                              .scale = model.attention_scale,
                              .cap = model.attention_cap});
}

}  // namespace tandem::engine
