// Plain arguments of the kernels. Included by files that are compiled with AVX flags: nothing here or below it may
// bring an inline function or a template of the standard library, whose AVX copy the linker could pick for everybody.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tandem::engine {

// Rows of a weight matrix that lie side by side in packed form: one vector lane each.
inline constexpr int kRowGroup = 16;

// A packed matrix as a kernel sees it (PackedMatrix::view). Layout of a group: engine/cpu/packed_matrix.h.
struct PackedView {
  const std::byte* data;  // group g at data + g * group_bytes; 64-byte aligned
  int64_t rows, cols;     // rows as in the file; the last group is padded to kRowGroup
  uint64_t group_bytes;
};

// Activations of `rows` tokens, row-major. Borrowed pointers; which are set depends on the kind.
struct Activations {
  const float* f32 = nullptr;      // [rows, cols]                kF32
  const int8_t* q = nullptr;       // [rows, cols]                both int8 kinds; values -127..127
  const float* scale = nullptr;    // [rows, cols / block]        both int8 kinds: x ~ q * scale, scale = max|x| / 127
  const int32_t* sum16 = nullptr;  // [rows, cols / 16]           int8 kinds: exact sum of each 16 consecutive q
};

// out[r, o] = sum over k of w[o, k] * x[r, k] for row groups [group_begin, group_end) of w, as one chain per output in
// ascending K:
//   F32, F16, BF16   acc = fma(float(w), x, acc) per element
//   quantised        per block of 32 or 256, whose weights are (d * scale_j) * q - dmin * min_j with j counting runs of
//   16
//                    (engine/quant/integer_block.h): acc = fma(d * s, float(sum_j scale_j dot_j), acc) and, in formats
//                    with mins, acc = fma(-(dmin * s), float(sum_j min_j sum16_j), acc)
// s is the activations' scale of the block, dot_j and the sums are exact in int32; d * s is one float product, rounded.
// acc starts at +0.
struct MatMulArgs {
  PackedView weights;
  Activations x;
  int rows;            // tokens, >= 1
  float* out;          // [rows, out_stride]; only the first weights.rows of a row are written
  int64_t out_stride;  // elements
  int64_t group_begin, group_end;
};

// One query head over the keys of one sequence. Page p of the sequence holds keys [p * page_tokens, (p + 1) *
// page_tokens), of which [first_key, num_keys) are visible. Canonical order: keys in tiles of 16 whose first position
// is a multiple of 16, beginning with the tile of first_key, and for each tile
//   s_j = scale * dot16(q, k_j);  with a cap: s_j = cap - 2 cap / (1 + exp(s_j * (2 / cap))), which is cap * tanh
//   m' = max(m, max s);  c = exp(m - m'), but 0 in the first tile
//   p_j = exp(s_j - m'), but 0 for invisible keys;  l = fma(l, c, fold16(p))
//   o_d = o_d * c, then o_d = fma(p_j, v_jd, o_d) for j ascending (invisible keys skipped)
// and at the end out_d = o_d / l. With a sink, a score without a value, before that: m' = max(m, sink);
// c = exp(m - m'); l = fma(l, c, exp(sink - m')); o_d = o_d * c. m starts at -infinity, l and o at +0. dot16: 16
// strided partial sums by fma, element d to partial d % 16. fold16: p[i] += p[i + 8] for i < 8, then 4, 2, 1.
struct AttentionArgs {
  const float* q;                   // [key_dim]
  const std::byte* const* k_pages;  // per page: the key of token t at element t * key_stride; of this layer and kv head
  const std::byte* const* v_pages;  // likewise with value_stride
  bool kv_f16;                      // pages hold F16, else F32
  int page_tokens;                  // a multiple of 16
  int first_key, num_keys;          // 0 <= first_key < num_keys
  int key_dim, value_dim;           // any multiples of 4
  int key_stride, value_stride;     // elements, not below the dims
  float scale;
  float cap;          // of the scores; 0: none
  const float* sink;  // null: none
  float* out;         // [value_dim]; does not overlap q
};

}  // namespace tandem::engine
