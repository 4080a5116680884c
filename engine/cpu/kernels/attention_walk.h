// Attention for every kernel set with vectors: the walk of up to 32 queries over the blocks of 64 keys, written once
// over 16 lanes. Rules as in kernels/vector_common.h: an unnamed namespace, no standard library.
//
// V names what a set can do with 16 floats (V::Floats), which scores take as lanes for keys and values as lanes for
// elements: Zero, Set1, Load, Store, Add, Sub, Mul, Fma, Max, MaxOf (of the lanes), Fold (8, 4, 2, 1), Exp, Capped,
// Visible (lanes outside [first, end) become -infinity), Transpose (16 x 16, in place), LoadF16, LoadBF16, LoadInt8,
// LoadNibbles (as numbers 16 times as large: the lower ones of 16 bytes or the upper ones), and for pages of blocks
// PartOfWords (some bits of each of 16 words, as a signed number), LoadUnit (16 keys x 4 int8), LoadNibbleUnit (from
// nibbles, likewise 16 times as large), and DotStart, Dot and DotEnd, the exact sum of the products of units with the 4
// int8 of a query's word. V::kChains is how many accumulators of Floats fit the registers beside what they are fed
// with, V::kQueries how many queries share a loaded key; both powers of two, without influence on the bits.
#pragma once

#include "engine/cpu/kernels/attention_pages.h"
#include "engine/cpu/kernels/vector_common.h"

namespace tandem::engine {
namespace {

template <typename V, typename Elements>
class AttentionWalk {
 public:
  explicit AttentionWalk(const AttentionArgs& args) : args_(args) {}

  void Run() {
    int first = args_.queries[0].first_key, end = 0;
    for (int i = 0; i < args_.count; ++i) {
      const AttentionQuery& query = args_.queries[i];
      first = query.first_key < first ? query.first_key : first;
      end = query.num_keys > end ? query.num_keys : end;
      max_[i] = -__builtin_inff();
      V::Store(sums_[i], V::Zero());
      for (int d = 0; d < args_.value_dim; ++d) query.out[d] = 0.0f;
    }
    for (int block = first / kKeyBlock * kKeyBlock; block < end; block += kKeyBlock) {
      all_ = {Clamp(first - block), Clamp(end - block)};
      for (int i = 0; i < args_.count; ++i) {
        seen_[i] = {Clamp(args_.queries[i].first_key - block), Clamp(args_.queries[i].num_keys - block)};
      }
      FindTiles(block, end);
      WeighFrom<Elements::kBlocks ? V::kQueries / 2 : V::kQueries>(0);
      AddBlock();
    }
    for (int i = 0; i < args_.count; ++i) Finish(i);
  }

 private:
  using Floats = typename V::Floats;
  static constexpr int kTiles = kKeyBlock / kKeyTile;
  static constexpr int kGathered = 32;  // elements of a value that are gathered at a time
  static constexpr int kLine = 64;      // bytes of a cache line

  // Keys of the block in progress, counted from its first one; empty: first >= end.
  struct Range {
    int first, end;
  };
  // Rows of values: key j of the block in row j % 16 of its tile.
  struct Rows {
    const std::byte* tile[kTiles] = {};
    int64_t ahead[kTiles] = {};  // as Fetch takes it
    int64_t stride = 0;          // bytes
  };

  static int Clamp(int key) { return key < 0 ? 0 : key > kKeyBlock ? kKeyBlock : key; }
  static int FirstTile(Range range) { return range.first / kKeyTile; }
  static int EndTile(Range range) { return (range.end + kKeyTile - 1) / kKeyTile; }

  // The tiles that some query sees, and how far on those in their places in the next block are; 0: there are none.
  void FindTiles(int block, int end) {
    for (int t = FirstTile(all_); t < EndTile(all_); ++t) {
      const int position = block + t * kKeyTile, next = position + kKeyBlock < end ? position + kKeyBlock : position;
      keys_[t] = KeyTile(position);
      keys_ahead_[t] = KeyTile(next) - keys_[t];
      if (args_.values == nullptr) continue;
      values_[t] = ValueTile(position);
      values_ahead_[t] = ValueTile(next) - values_[t];
    }
  }
  const std::byte* KeyTile(int position) const { return args_.keys + TileAt(position, args_.key_dim); }
  const std::byte* ValueTile(int position) const { return args_.values + TileAt(position, args_.value_dim); }
  uint64_t TileAt(int position, int dim) const {
    const int64_t tile = position % args_.page_tokens / kKeyTile;
    return args_.pages[position / args_.page_tokens] * args_.page_bytes + tile * Elements::TileBytes(dim);
  }

  // Asks for the cache lines that are `ahead` bytes further on than what is about to be read, in the next block, whose
  // page the processor does not foresee; 0: none. Called for every few elements that the first queries read: a core
  // keeps track of some two dozen lines at a time, and a whole block asked for at once would hold up what follows.
  static void Fetch(const std::byte* p, int64_t ahead, int64_t bytes) {
    if (ahead == 0) return;
    for (int64_t at = 0; at < bytes; at += kLine) Prefetch<2>(p + ahead + at);
  }

  // The weights of the block's keys for queries [i, count), kQueries, ... 2, 1 at a time.
  template <int kQueries>
  void WeighFrom(int i) {
    for (; i + kQueries <= args_.count; i += kQueries) Weigh<kQueries>(i);
    if constexpr (kQueries > 1) WeighFrom<kQueries / 2>(i);
  }

  template <int kQueries>
  void Weigh(int i) {
    // A product of int8 has two accumulators.
    constexpr int kFit = V::kChains / kQueries / (Elements::kBlocks ? 2 : 1);
    constexpr int kAtOnce = kFit < kTiles ? kFit : kTiles;
    const Range seen = Union<kQueries>(i);
    if (seen.first >= seen.end) return;
    ScoreTiles<kQueries, kAtOnce>(i, FirstTile(seen), EndTile(seen));
    for (int n = 0; n < kQueries; ++n) Soften(i + n);
  }

  template <int kQueries>
  Range Union(int i) const {
    Range range = {kKeyBlock, 0};
    for (int n = 0; n < kQueries; ++n) {
      const Range seen = seen_[i + n];
      if (seen.first >= seen.end) continue;
      range.first = seen.first < range.first ? seen.first : range.first;
      range.end = seen.end > range.end ? seen.end : range.end;
    }
    return range;
  }

  template <int kQueries, int kAtOnce>
  void ScoreTiles(int i, int t, int end) {
    for (; t + kAtOnce <= end; t += kAtOnce) {
      Floats s[kQueries][kAtOnce];
      for (int n = 0; n < kQueries; ++n) {
        for (int u = 0; u < kAtOnce; ++u) s[n][u] = V::Zero();
      }
      if (i == 0) {
        Multiply<true>(i, t, s);
      } else {
        Multiply<false>(i, t, s);
      }
      for (int n = 0; n < kQueries; ++n) {
        for (int u = 0; u < kAtOnce; ++u) V::Store(weights_[i + n] + (t + u) * kKeyTile, s[n][u]);
      }
    }
    if constexpr (kAtOnce > 1) ScoreTiles<kQueries, kAtOnce / 2>(i, t, end);
  }

  // s += the products of kQueries queries with the keys of kAtOnce tiles.
  template <bool kFetch, int kQueries, int kAtOnce>
  void Multiply(int i, int t, Floats (&s)[kQueries][kAtOnce]) const {
    if constexpr (Elements::kBlocks) {
      MultiplyInt8<kFetch>(i, t, s);
    } else {
      MultiplyFloats<kFetch>(i, t, s);
    }
  }

  template <bool kFetch, int kQueries, int kAtOnce>
  void MultiplyFloats(int i, int t, Floats (&s)[kQueries][kAtOnce]) const {
    const float* q[kQueries];
    for (int n = 0; n < kQueries; ++n) q[n] = args_.queries[i + n].q;
    const std::byte* k[kAtOnce];
    for (int u = 0; u < kAtOnce; ++u) k[u] = keys_[t + u];
    constexpr int64_t kBytes = kKeyTile * Elements::kBytes;  // of an element of all keys of a tile
    const int64_t dim = args_.key_dim;
    for (int64_t d = 0; d < dim; ++d) {
      if (kFetch && d * kBytes % kLine == 0) {
        for (int u = 0; u < kAtOnce; ++u) Fetch(k[u] + d * kBytes, keys_ahead_[t + u], kBytes);
      }
      Floats key[kAtOnce];
      for (int u = 0; u < kAtOnce; ++u) key[u] = Elements::KeyLanes(k[u], d);
      for (int n = 0; n < kQueries; ++n) {
        const Floats qd = V::Set1(q[n][d]);
        for (int u = 0; u < kAtOnce; ++u) s[n][u] = V::Fma(qd, key[u], s[n][u]);
      }
    }
  }

  template <bool kFetch, int kQueries, int kAtOnce>
  void MultiplyInt8(int i, int t, Floats (&s)[kQueries][kAtOnce]) const {
    const AttentionQuery* queries = args_.queries + i;
    for (int64_t b = 0; b < args_.key_dim / Elements::kBlock; ++b) {
      if (kFetch) {
        for (int u = 0; u < kAtOnce; ++u) {
          Fetch(keys_[t + u] + b * Elements::kBlockBytes, keys_ahead_[t + u], Elements::kBlockBytes);
        }
      }
      typename V::Sums dot[kQueries][kAtOnce];
      for (int n = 0; n < kQueries; ++n) {
        const int32_t* sum16 = queries[n].int8.sum16 + 2 * b;
        for (int u = 0; u < kAtOnce; ++u) dot[n][u] = V::DotStart(sum16[0] + sum16[1]);
      }
      for (int word = 0; word < Elements::kBlock / 4; ++word) {
        typename V::Unit key[kAtOnce];
        for (int u = 0; u < kAtOnce; ++u) {
          key[u] = Elements::KeyUnit(keys_[t + u] + b * Elements::kBlockBytes, word);
        }
        for (int n = 0; n < kQueries; ++n) {
          int32_t four;
          __builtin_memcpy(&four, queries[n].int8.q + b * Elements::kBlock + 4 * word, sizeof(four));
          for (int u = 0; u < kAtOnce; ++u) dot[n][u] = V::Dot(dot[n][u], key[u], four);
        }
      }
      for (int u = 0; u < kAtOnce; ++u) {
        const Floats scales = Elements::Scales(keys_[t + u] + b * Elements::kBlockBytes);
        for (int n = 0; n < kQueries; ++n) {
          const Floats scale = V::Mul(scales, V::Set1(queries[n].int8.scale[b]));
          s[n][u] = V::Fma(scale, V::DotEnd(dot[n][u]), s[n][u]);
        }
      }
    }
  }

  // From products to weights, and what the block's maximum changes in what was summed before.
  void Soften(int i) {
    const Range seen = seen_[i];
    if (seen.first >= seen.end) return;
    const int begin = FirstTile(seen), end = EndTile(seen);
    const Floats scale = V::Set1(args_.scale);
    Floats top = V::Set1(max_[i]);
    for (int t = begin; t < end; ++t) {
      float* s = weights_[i] + t * kKeyTile;
      Floats scaled = V::Mul(scale, V::Load(s));
      if (args_.cap != 0.0f) scaled = V::Capped(scaled, args_.cap);
      scaled = V::Visible(scaled, Clamp(seen.first - t * kKeyTile), Clamp(seen.end - t * kKeyTile));
      top = V::Max(scaled, top);
      V::Store(s, scaled);
    }
    const float block_max = V::MaxOf(top);
    Floats sums = V::Load(sums_[i]);
    if (block_max != max_[i]) {
      const float correction = V::First(V::Exp(V::Set1(max_[i] - block_max)));
      max_[i] = block_max;
      sums = V::Mul(sums, V::Set1(correction));
      ScaleResult(i, correction);
    }
    for (int t = begin; t < end; ++t) {
      float* p = weights_[i] + t * kKeyTile;
      const Floats weight = V::Exp(V::Sub(V::Load(p), V::Set1(block_max)));
      sums = V::Add(sums, weight);
      V::Store(p, weight);
    }
    V::Store(sums_[i], sums);
  }

  void ScaleResult(int i, float factor) {
    float* out = args_.queries[i].out;
    int d = 0;
    for (; d + 16 <= args_.value_dim; d += 16) V::Store(out + d, V::Mul(V::Load(out + d), V::Set1(factor)));
    for (; d < args_.value_dim; ++d) out[d] *= factor;
  }

  // Adds the block's values to the results. Those that do not lie in the pages as whole vectors of floats are gathered
  // some elements at a time, once for all queries.
  void AddBlock() {
    int d = 0;
    if constexpr (!Elements::kBlocks) {
      if (args_.values != nullptr) {
        Rows rows = {.stride = int64_t{args_.value_dim} * Elements::kBytes};
        for (int t = FirstTile(all_); t < EndTile(all_); ++t) {
          rows.tile[t] = values_[t];
          rows.ahead[t] = values_ahead_[t];
        }
        d = args_.value_dim / 16 * 16;
        AddFrom<Elements, V::kQueries>(rows, 0, d, 0);
      }
    }
    for (; d < args_.value_dim; d += kGathered) {
      const int width = args_.value_dim - d < kGathered ? args_.value_dim - d : kGathered;
      if (args_.values == nullptr) {
        GatherFromKeys(d, width);
      } else if constexpr (Elements::kBlocks) {
        GatherBlock(d);
      } else {
        GatherTail(d, width);
      }
      AddGathered(d, width);
    }
  }

  void AddGathered(int d, int width) {
    Rows rows = {.stride = sizeof(gathered_[0])};
    for (int t = 0; t < kTiles; ++t) rows.tile[t] = reinterpret_cast<const std::byte*>(gathered_[t * kKeyTile]);
    const int whole = width / 16 * 16;
    AddFrom<F32Elements<V>, V::kQueries>(rows, d, whole, 0);
    if (whole == width) return;
    for (int t = 0; t < kTiles; ++t) rows.tile[t] += whole * sizeof(float);
    for (int i = 0; i < args_.count; ++i) {
      float* out = args_.queries[i].out + d + whole;
      float tail[16] = {};
      for (int e = 0; e < width - whole; ++e) tail[e] = out[e];
      float* const to[1] = {tail};
      AddVectors<F32Elements<V>, 1, 1>(rows, i, seen_[i], to, 16);
      for (int e = 0; e < width - whole; ++e) out[e] = tail[e];
    }
  }

  // Elements [d, d + width) of the keys, with the keys as rows.
  void GatherFromKeys(int d, int width) {
    for (int t = FirstTile(all_); t < EndTile(all_); ++t) {
      for (int begin = 0; begin < width; begin += 16) {
        Floats lanes[16];
        for (int e = 0; e < 16; ++e) {
          lanes[e] = begin + e < width ? Elements::KeyLanes(keys_[t], d + begin + e) : V::Zero();
        }
        V::Transpose(lanes);
        for (int j = 0; j < kKeyTile; ++j) V::Store(gathered_[t * kKeyTile + j] + begin, lanes[j]);
      }
    }
  }

  // A block of 32 elements.
  void GatherBlock(int d) {
    static_assert(kGathered == 32);
    for (int t = FirstTile(all_); t < EndTile(all_); ++t) {
      const std::byte* block = values_[t] + d / kGathered * Elements::kBlockBytes;
      Fetch(block, values_ahead_[t], Elements::kBlockBytes);
      float scales[kKeyTile];
      V::Store(scales, Elements::Scales(block));
      for (int j = 0; j < kKeyTile; ++j) {
        for (int half = 0; half < 2; ++half) {
          const Floats values = V::Mul(V::Set1(scales[j]), Elements::Values(block, j, half));
          V::Store(gathered_[t * kKeyTile + j] + half * 16, values);
        }
      }
    }
  }

  // The end of each value, fewer than 16 elements.
  void GatherTail(int d, int width) {
    for (int j = all_.first; j < all_.end; ++j) {
      std::byte row[16 * Elements::kBytes] = {};
      const int64_t element = int64_t{j % kKeyTile} * args_.value_dim + d;
      __builtin_memcpy(row, values_[j / kKeyTile] + element * Elements::kBytes, width * Elements::kBytes);
      V::Store(gathered_[j], Elements::Load(row));
    }
  }

  // Adds `width` elements of the values, a multiple of 16, to the results of queries [i, count) from element d on.
  template <typename From, int kQueries>
  void AddFrom(const Rows& rows, int d, int width, int i) {
    for (; i + kQueries <= args_.count; i += kQueries) AddRows<From, kQueries>(rows, d, width, i);
    if constexpr (kQueries > 1) AddFrom<From, kQueries / 2>(rows, d, width, i);
  }

  // Keys that all of kQueries queries see are read once for all, those before and after for each.
  template <typename From, int kQueries>
  void AddRows(const Rows& rows, int d, int width, int i) {
    Range common = {0, kKeyBlock};
    for (int n = 0; n < kQueries; ++n) {
      const Range seen = seen_[i + n];
      common.first = seen.first > common.first ? seen.first : common.first;
      common.end = seen.end < common.end ? seen.end : common.end;
    }
    const bool shared = kQueries > 1 && common.first < common.end;
    float* out[kQueries];
    for (int n = 0; n < kQueries; ++n) out[n] = args_.queries[i + n].out + d;
    for (int n = 0; n < kQueries; ++n) {
      float* const one[1] = {out[n]};
      const Range before = {seen_[i + n].first, shared ? common.first : seen_[i + n].end};
      AddVectors<From, 1, V::kChains / 2>(rows, i + n, before, one, width);
    }
    if (!shared) return;
    AddVectors<From, kQueries, V::kChains / kQueries>(rows, i, common, out, width);
    for (int n = 0; n < kQueries; ++n) {
      float* const one[1] = {out[n]};
      AddVectors<From, 1, V::kChains / 2>(rows, i + n, {common.end, seen_[i + n].end}, one, width);
    }
  }

  template <typename From, int kQueries, int kVectors>
  void AddVectors(const Rows& rows, int i, Range keys, float* const (&out)[kQueries], int width, int d = 0) {
    if (keys.first >= keys.end) return;
    for (; d + 16 * kVectors <= width; d += 16 * kVectors) {
      if (!Elements::kBlocks && i == 0) {
        Add<true, From, kQueries, kVectors>(rows, i, keys, out, d);
      } else {
        Add<false, From, kQueries, kVectors>(rows, i, keys, out, d);
      }
    }
    if constexpr (kVectors > 1) AddVectors<From, kQueries, kVectors / 2>(rows, i, keys, out, width, d);
  }

  template <bool kFetch, typename From, int kQueries, int kVectors>
  void Add(const Rows& rows, int i, Range keys, float* const (&out)[kQueries], int64_t d) {
    Floats o[kQueries][kVectors];
    for (int n = 0; n < kQueries; ++n) {
      for (int v = 0; v < kVectors; ++v) o[n][v] = V::Load(out[n] + d + 16 * v);
    }
    for (int t = FirstTile(keys); t < EndTile(keys); ++t) {
      const int begin = keys.first > t * kKeyTile ? keys.first : t * kKeyTile;
      const int end = keys.end < (t + 1) * kKeyTile ? keys.end : (t + 1) * kKeyTile;
      const std::byte* row = rows.tile[t] + (begin - t * kKeyTile) * rows.stride + d * From::kBytes;
      for (const float* p = weights_[i] + begin; p < weights_[i] + end; ++p, row += rows.stride) {
        if (kFetch) Fetch(row, rows.ahead[t], 16 * kVectors * From::kBytes);
        Floats value[kVectors];
        for (int v = 0; v < kVectors; ++v) value[v] = From::Load(row + 16 * v * From::kBytes);
        for (int n = 0; n < kQueries; ++n) {
          const Floats weight = V::Set1(p[n * kKeyBlock]);
          for (int v = 0; v < kVectors; ++v) o[n][v] = V::Fma(weight, value[v], o[n][v]);
        }
      }
    }
    for (int n = 0; n < kQueries; ++n) {
      for (int v = 0; v < kVectors; ++v) V::Store(out[n] + d + 16 * v, o[n][v]);
    }
  }

  void Finish(int i) {
    const AttentionQuery& query = args_.queries[i];
    float sum = V::Fold(V::Load(sums_[i]));
    if (query.sink != nullptr) {
      const float with_sink = *query.sink > max_[i] ? *query.sink : max_[i];
      const float correction = V::First(V::Exp(V::Set1(max_[i] - with_sink)));
      sum = __builtin_fmaf(sum, correction, V::First(V::Exp(V::Set1(*query.sink - with_sink))));
      ScaleResult(i, correction);
    }
    for (int d = 0; d < args_.value_dim; ++d) query.out[d] /= sum;
  }

  const AttentionArgs& args_;
  Range all_;                         // seen by some query
  Range seen_[kMaxAttentionQueries];  // by each
  const std::byte* keys_[kTiles];
  const std::byte* values_[kTiles];
  int64_t keys_ahead_[kTiles], values_ahead_[kTiles];  // as Fetch takes them
  float max_[kMaxAttentionQueries];
  alignas(64) float sums_[kMaxAttentionQueries][kKeyTile];
  alignas(64) float weights_[kMaxAttentionQueries][kKeyBlock];  // first the scores
  alignas(64) float gathered_[kKeyBlock][kGathered];
};

template <typename V>
inline void AttentionOf(const AttentionArgs& args) {
  switch (args.type) {
    case KvType::kF32:
      return AttentionWalk<V, F32Elements<V>>(args).Run();
    case KvType::kF16:
      return AttentionWalk<V, F16Elements<V>>(args).Run();
    case KvType::kBF16:
      return AttentionWalk<V, BF16Elements<V>>(args).Run();
    case KvType::kQ8_0:
      return AttentionWalk<V, Q8Elements<V>>(args).Run();
    case KvType::kQ4_0:
      return AttentionWalk<V, Q4Elements<V>>(args).Run();
  }
}

}  // namespace
}  // namespace tandem::engine
