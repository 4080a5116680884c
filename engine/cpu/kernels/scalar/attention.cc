#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "engine/cpu/canonical_math.h"
#include "engine/cpu/kernels/kernels.h"
#include "engine/quant/block_format.h"

namespace tandem::engine::scalar {
namespace {

struct F32 {
  static float Read(const std::byte* p, int64_t element) { return reinterpret_cast<const float*>(p)[element]; }
};
struct F16 {
  static float Read(const std::byte* p, int64_t element) {
    return HalfToFloat(reinterpret_cast<const uint16_t*>(p)[element]);
  }
};
struct BF16 {
  static float Read(const std::byte* p, int64_t element) {
    return std::bit_cast<float>(uint32_t{reinterpret_cast<const uint16_t*>(p)[element]} << 16);
  }
};

// Keys and values by position, and the product of a query with a key.
template <typename Element>
class FloatPages {
 public:
  explicit FloatPages(const AttentionArgs& args) : args_(args) {}

  float Key(int position, int d) const {
    const int slot = position % args_.page_tokens;
    const int64_t tile = int64_t{slot / kKeyTile} * kKeyTile * args_.key_dim;
    return Element::Read(Page(args_.keys, position), tile + d * kKeyTile + slot % kKeyTile);
  }
  float Value(int position, int d) const {
    if (args_.values == nullptr) return Key(position, d);
    return Element::Read(Page(args_.values, position), int64_t{position % args_.page_tokens} * args_.value_dim + d);
  }
  float Product(const AttentionQuery& query, int position) const {
    float s = 0.0f;
    for (int d = 0; d < args_.key_dim; ++d) s = std::fma(query.q[d], Key(position, d), s);
    return s;
  }

 private:
  const std::byte* Page(const std::byte* first, int position) const {
    return first + args_.pages[position / args_.page_tokens] * args_.page_bytes;
  }
  const AttentionArgs& args_;
};

// The elements of 16 tokens behind a block's scales, as int8.
struct Int8Block {
  static constexpr int kBytes = 32;  // of a token
  static float Scale(float d) { return d; }
  static int Key(const std::byte* p, int slot, int e) { return At(p, (e / 4 * kKeyTile + slot) * 4 + e % 4); }
  static int Value(const std::byte* p, int slot, int e) { return At(p, slot * kBytes + e); }

 private:
  static int At(const std::byte* p, int i) { return static_cast<int8_t>(p[i]); }
};

struct Int4Block {
  static constexpr int kBytes = 16;
  static float Scale(float d) { return d / 16; }
  static int Key(const std::byte* p, int slot, int e) {
    return At(p, (e / 8 * kKeyTile + slot) * 4 + e % 4, e % 8 >= 4);
  }
  static int Value(const std::byte* p, int slot, int e) { return At(p, slot * kBytes + e % 16, e >= 16); }

 private:
  static int At(const std::byte* p, int i, bool upper) {
    return static_cast<int8_t>(upper ? p[i] & std::byte{0xf0} : p[i] << 4);
  }
};

template <typename Block>
class BlockPages {
 public:
  explicit BlockPages(const AttentionArgs& args) : args_(args) {}

  float Value(int position, int d) const {
    const int slot = position % kKeyTile;
    if (args_.values == nullptr) {
      const std::byte* block = BlockAt(args_.keys, args_.key_dim, position, d);
      return Scale(block, slot) * static_cast<float>(Block::Key(block + kScales, slot, d % kBlock));
    }
    const std::byte* block = BlockAt(args_.values, args_.value_dim, position, d);
    return Scale(block, slot) * static_cast<float>(Block::Value(block + kScales, slot, d % kBlock));
  }
  float Product(const AttentionQuery& query, int position) const {
    const int slot = position % kKeyTile;
    float s = 0.0f;
    for (int b = 0; b < args_.key_dim / kBlock; ++b) {
      const std::byte* block = BlockAt(args_.keys, args_.key_dim, position, b * kBlock);
      int32_t dot = 0;
      for (int e = 0; e < kBlock; ++e) dot += query.int8.q[b * kBlock + e] * Block::Key(block + kScales, slot, e);
      s = std::fma(Scale(block, slot) * query.int8.scale[b], static_cast<float>(dot), s);
    }
    return s;
  }

 private:
  static constexpr int kBlock = 32, kScales = 2 * kKeyTile, kBlockBytes = kScales + kKeyTile * Block::kBytes;

  const std::byte* BlockAt(const std::byte* first, int dim, int position, int d) const {
    const std::byte* page = first + args_.pages[position / args_.page_tokens] * args_.page_bytes;
    const int64_t tile = position % args_.page_tokens / kKeyTile;
    return page + (tile * (dim / kBlock) + d / kBlock) * kBlockBytes;
  }
  static float Scale(const std::byte* block, int slot) {
    return Block::Scale(HalfToFloat(reinterpret_cast<const uint16_t*>(block)[slot]));
  }
  const AttentionArgs& args_;
};

float Score(const AttentionArgs& args, float product) {
  const float s = args.scale * product;
  if (args.cap == 0.0f) return s;
  return args.cap - 2.0f * args.cap / (1.0f + CanonicalExp(s * (2.0f / args.cap)));
}

float Fold16(float* p) {
  for (int half = 8; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) p[i] += p[i + half];
  }
  return p[0];
}

template <typename Pages>
void Attend(const AttentionArgs& args, const AttentionQuery& query) {
  const Pages pages(args);
  float m = -std::numeric_limits<float>::infinity();
  float l[kKeyTile] = {};
  std::fill_n(query.out, args.value_dim, 0.0f);
  for (int block = query.first_key / kKeyBlock * kKeyBlock; block < query.num_keys; block += kKeyBlock) {
    const int begin = std::max(query.first_key, block), end = std::min(query.num_keys, block + kKeyBlock);
    float p[kKeyBlock];
    float block_max = m;
    for (int j = begin; j < end; ++j) {
      p[j - block] = Score(args, pages.Product(query, j));
      block_max = p[j - block] > block_max ? p[j - block] : block_max;
    }
    const float correction = CanonicalExp(m - block_max);
    m = block_max;
    for (float& sum : l) sum *= correction;
    for (int j = begin; j < end; ++j) {
      p[j - block] = CanonicalExp(p[j - block] - m);
      l[j % kKeyTile] += p[j - block];
    }
    for (int d = 0; d < args.value_dim; ++d) {
      float o = query.out[d] * correction;
      for (int j = begin; j < end; ++j) o = std::fma(p[j - block], pages.Value(j, d), o);
      query.out[d] = o;
    }
  }
  float sum = Fold16(l);
  if (query.sink != nullptr) {
    const float with_sink = *query.sink > m ? *query.sink : m;
    const float correction = CanonicalExp(m - with_sink);
    sum = std::fma(sum, correction, CanonicalExp(*query.sink - with_sink));
    for (int d = 0; d < args.value_dim; ++d) query.out[d] *= correction;
  }
  for (int d = 0; d < args.value_dim; ++d) query.out[d] /= sum;
}

}  // namespace

void Attention(const AttentionArgs& args) {
  for (int i = 0; i < args.count; ++i) {
    switch (args.type) {
      case KvType::kF32:
        Attend<FloatPages<F32>>(args, args.queries[i]);
        break;
      case KvType::kF16:
        Attend<FloatPages<F16>>(args, args.queries[i]);
        break;
      case KvType::kBF16:
        Attend<FloatPages<BF16>>(args, args.queries[i]);
        break;
      case KvType::kQ8_0:
        Attend<BlockPages<Int8Block>>(args, args.queries[i]);
        break;
      case KvType::kQ4_0:
        Attend<BlockPages<Int4Block>>(args, args.queries[i]);
        break;
    }
  }
}

}  // namespace tandem::engine::scalar
