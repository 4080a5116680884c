// Plain arguments of the kernels. Included by files that are compiled with AVX flags: nothing here or below it may
// bring an inline function or a template of the standard library, whose AVX copy the linker could pick for everybody.
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/quant/kv_type.h"

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

// Keys that lie side by side in a page, one vector lane each.
inline constexpr int kKeyTile = 16;
// Keys that attention weighs against each other at a time.
inline constexpr int kKeyBlock = 4 * kKeyTile;
// Queries of one call.
inline constexpr int kMaxAttentionQueries = 32;

// A query head of one token. Borrowed pointers.
struct AttentionQuery {
  const float* q;           // [key_dim]; not read by Q8_0 and Q4_0 pages, which take ...
  Activations int8;         // ... the same as int8 with a scale per 32 (quantize_block32): one row of key_dim
  float* out;               // [value_dim]; overlaps no query
  const float* sink;        // null: none
  int first_key, num_keys;  // it sees the keys [first_key, num_keys); 0 <= first_key < num_keys
};

// Queries over the keys of one sequence and KV head. Page p of the sequence holds its keys [p * page_tokens, (p + 1) *
// page_tokens), as KvPages lays them out:
//   keys    [page_tokens / 16, key_dim, 16 keys]
//   values  [page_tokens, value_dim]
// and in Q8_0, a scale d in F16 for 32 elements of a token and k or v = d * q with an int8 q of -127 to 127:
//   keys    [page_tokens / 16, key_dim / 32] of 16 scales, then [8, 16 keys, 4] int8, as packed Q8_0 weights lie
//   values  [page_tokens / 16, value_dim / 32] of 16 scales, then [16 tokens, 32] int8
// Q4_0 has q of -8 to 7 in 4 bits, two's complement, and counts as Q8_0 with int8 values 16 q and a scale d / 16:
//   keys    as above, then [4, 16 keys, 4] bytes: of eight neighbours, the low nibbles hold the first four
//   values  as above, then [16 tokens, 16] bytes: the low nibbles hold the first 16
// What keys are not visible is not read, but for those that share a tile of 16 with visible ones.
//
// Canonical order, each query on its own: blocks of 64 keys whose first position is a multiple of 64, beginning with
// that of first_key; in a block, over the visible keys j ascending,
//   s_j = fma(q_d, k_jd, s_j) for d ascending from s_j = +0, then s_j = scale * s_j; int8: s_j = fma(d * s, float(dot),
//         s_j) for each 32 elements, as MatMulArgs has it
//         with a cap: s_j = cap - 2 cap / (1 + exp(s_j * (2 / cap))), which is cap * tanh
//   m' = max(m, max s);  c = exp(m - m'), which is 1 where the maximum stays and 0 in the first block
//   p_j = exp(s_j - m');  l_i = l_i * c, then l_i = l_i + p_j with i = j % 16;  o_d = o_d * c, then
//   o_d = fma(p_j, v_jd, o_d)
// and at the end out_d = o_d / l, l = fold16(l_i): l_i = l_i + l_(i + 8) for i < 8, then 4, 2, 1. With a sink, a score
// without a value, before that: m' = max(m, sink); c = exp(m - m'); l = fma(l, c, exp(sink - m')); o_d = o_d * c. m
// starts at -infinity, l_i and o at +0.
struct AttentionArgs {
  const AttentionQuery* queries;
  int count;                // of queries, 1 to kMaxAttentionQueries
  const std::byte* keys;    // of page number 0; those of number n are n * page_bytes further on
  const std::byte* values;  // likewise; null: a value is the beginning of its key
  uint64_t page_bytes;
  const uint32_t* pages;  // numbers of the sequence's pages
  int page_tokens;        // a multiple of 16
  KvType type;
  int key_dim, value_dim;  // any multiples of 4; Q8_0, Q4_0: of 32
  float scale;
  float cap;  // of the scores; 0: none
};

}  // namespace tandem::engine
