// Attention over paged keys: scalar against double arithmetic, every kernel set against scalar bit by bit.
#include <gtest/gtest.h>

#include <bit>
#include <limits>

#include "tests/engine/cpu/kernel_test_support.h"

namespace tandem::engine {
namespace {

using namespace testing;  // NOLINT: tandem::engine::testing

// What a layer may do besides plain attention.
struct Extras {
  float cap = 0;
  bool sink = false;
};

// Keys [first, end) that a query sees.
struct Range {
  int first, end;
};

constexpr KvType kTypes[] = {KvType::kF32, KvType::kF16, KvType::kBF16, KvType::kQ8_0, KvType::kQ4_0};

// Blocks of 32 elements, int8 queries.
bool IsOfBlocks(KvType type) { return type == KvType::kQ8_0 || type == KvType::kQ4_0; }

// Some queries, and the keys and values of one sequence, [keys, dim], as the pages hold them.
class AttentionInput {
 public:
  AttentionInput(Rng& rng, int dim, std::vector<Range> seen, KvType type, int magnitude)
      : dim_(dim), value_dim_(dim), type_(type), seen_(std::move(seen)) {
    for (const Range& range : seen_) num_keys_ = std::max(num_keys_, range.end);
    q_ = RandomFloats(rng, seen_.size() * dim, -4, magnitude);
    if (IsOfBlocks(type)) QuantizeQueries();
    for (Rows* rows : {&k_, &v_}) {
      rows->values = RandomFloats(rng, static_cast<size_t>(num_keys_) * dim, -6, 2);
      Round(rows);
    }
  }

  // One query over `num_keys` keys.
  AttentionInput(Rng& rng, int dim, int num_keys, KvType type, int magnitude)
      : AttentionInput(rng, dim, {{0, num_keys}}, type, magnitude) {}

  // The same with the first `value_dim` elements of the keys for values.
  AttentionInput WithKeysAsValues(int value_dim) const {
    AttentionInput result = *this;
    result.value_dim_ = value_dim;
    result.v_ = {};
    const int blocks = dim_ / 32, value_blocks = value_dim / 32;
    for (int j = 0; j < num_keys_; ++j) {
      const auto take = [j](auto& to, const auto& from, int row, int count) {
        to.insert(to.end(), from.begin() + j * row, from.begin() + j * row + count);
      };
      take(result.v_.values, k_.values, dim_, value_dim);
      if (!IsOfBlocks(type_)) continue;
      take(result.v_.q, k_.q, dim_, value_dim);
      take(result.v_.scales, k_.scales, blocks, value_blocks);
    }
    return result;
  }
  // The values lie in the keys.
  void DropValues() { values_in_keys_ = true; }

  // The results of all queries in one call, over pages of `page_tokens` keys. What lies in the pages beyond the last
  // key is NaN: it must not be used.
  std::vector<float> Run(Isa isa, int page_tokens, const Extras& extras = {}) const {
    return RunSome(isa, page_tokens, extras, 0, static_cast<int>(seen_.size()));
  }
  // Of queries [first, end).
  std::vector<float> RunSome(Isa isa, int page_tokens, const Extras& extras, int first, int end) const {
    const uint64_t key_bytes = RowBytes(dim_) * page_tokens;
    const uint64_t value_bytes = values_in_keys_ ? 0 : RowBytes(value_dim_) * page_tokens;
    // A page nobody may touch, the sequence's pages in descending order.
    const uint32_t count = static_cast<uint32_t>((num_keys_ + page_tokens - 1) / page_tokens);
    std::vector<std::byte> memory((count + 1) * (key_bytes + value_bytes), std::byte{0xff});
    std::vector<uint32_t> pages(count);
    for (uint32_t p = 0; p < count; ++p) pages[p] = count - p;
    for (int j = 0; j < num_keys_; ++j) {
      std::byte* page = memory.data() + pages[j / page_tokens] * (key_bytes + value_bytes);
      const int slot = j % page_tokens;
      for (int d = 0; d < dim_; ++d) PutKey(j, d, slot, page);
      for (int d = 0; d < value_dim_ && !values_in_keys_; ++d) PutValue(j, d, slot, page + key_bytes);
    }
    std::vector<float> out((end - first) * value_dim_ + 4, 777.0f);
    std::vector<AttentionQuery> queries;
    for (int i = first; i < end; ++i) {
      queries.push_back({.q = q_.data() + i * dim_,
                         .int8 = {.q = q8_.data() + i * dim_,
                                  .scale = scales_.data() + i * (dim_ / 32),
                                  .sum16 = sum16_.data() + i * (dim_ / 16)},
                         .out = out.data() + (i - first) * value_dim_,
                         .sink = extras.sink ? &kSink : nullptr,
                         .first_key = seen_[i].first,
                         .num_keys = seen_[i].end});
    }
    KernelsFor(isa).attention({.queries = queries.data(),
                               .count = end - first,
                               .keys = memory.data(),
                               .values = values_in_keys_ ? nullptr : memory.data() + key_bytes,
                               .page_bytes = key_bytes + value_bytes,
                               .pages = pages.data(),
                               .page_tokens = page_tokens,
                               .type = type_,
                               .key_dim = dim_,
                               .value_dim = value_dim_,
                               .scale = kScale,
                               .cap = extras.cap});
    for (int i = 0; i < 4; ++i) EXPECT_EQ(out[out.size() - 4 + i], 777.0f);
    out.resize(out.size() - 4);
    return out;
  }

  // Softmax attention in double, without blocks.
  std::vector<double> Exact(const Extras& extras = {}) const {
    std::vector<double> out(seen_.size() * value_dim_, 0.0);
    for (size_t i = 0; i < seen_.size(); ++i) {
      const auto [first, end] = seen_[i];
      std::vector<double> scores(num_keys_, 0.0);
      double max = extras.sink ? kSink : -std::numeric_limits<double>::infinity();
      for (int j = first; j < end; ++j) {
        for (int d = 0; d < dim_; ++d) scores[j] += double{kScale} * q_[i * dim_ + d] * k_.values[j * dim_ + d];
        if (extras.cap > 0) scores[j] = extras.cap * std::tanh(scores[j] / extras.cap);
        max = std::max(max, scores[j]);
      }
      double sum = extras.sink ? std::exp(kSink - max) : 0;
      double* to = out.data() + i * value_dim_;
      for (int j = first; j < end; ++j) {
        const double p = std::exp(scores[j] - max);
        sum += p;
        for (int d = 0; d < value_dim_; ++d) to[d] += p * v_.values[j * value_dim_ + d];
      }
      for (int d = 0; d < value_dim_; ++d) to[d] /= sum;
    }
    return out;
  }

 private:
  static constexpr float kSink = 0.75f, kScale = 0.25f;

  // Rows as numbers, and as blocks.
  struct Rows {
    std::vector<float> values;     // what the pages hold
    std::vector<int8_t> q;         // [rows, dim]
    std::vector<uint16_t> scales;  // [rows, dim / 32]
  };

  // Each query becomes what its int8 form stands for.
  void QuantizeQueries() {
    q8_.resize(q_.size());
    scales_.resize(q_.size() / 32);
    sum16_.resize(q_.size() / 16);
    KernelsFor(Isa::kScalar).quantize_block32(q_.data(), q_.size(), q8_.data(), scales_.data(), sum16_.data());
    for (size_t i = 0; i < q_.size(); ++i) q_[i] = scales_[i / 32] * static_cast<float>(q8_[i]);
  }

  void Round(Rows* rows) const {
    if (IsOfBlocks(type_)) {
      std::vector<float> scales(rows->values.size() / 32);
      std::vector<int32_t> sums(rows->values.size() / 16);
      rows->q.resize(rows->values.size());
      KernelsFor(Isa::kScalar)
          .quantize_block32(rows->values.data(), rows->values.size(), rows->q.data(), scales.data(), sums.data());
      // The integers of Q4_0 are those of Q8_0 / 16, all from -8 to 7.
      if (type_ == KvType::kQ4_0) {
        for (int8_t& q : rows->q) q = static_cast<int8_t>(q == 127 ? 7 : q == -127 ? -8 : q >> 4);
      }
      for (const float scale : scales) rows->scales.push_back(FloatToHalf(type_ == KvType::kQ4_0 ? 16 * scale : scale));
    }
    for (size_t i = 0; i < rows->values.size(); ++i) {
      float& value = rows->values[i];
      if (type_ == KvType::kF16) value = HalfToFloat(FloatToHalf(value));
      if (type_ == KvType::kBF16) value = std::bit_cast<float>(std::bit_cast<uint32_t>(value) & 0xffff0000u);
      if (IsOfBlocks(type_)) value = HalfToFloat(rows->scales[i / 32]) * static_cast<float>(rows->q[i]);
    }
  }

  uint64_t RowBytes(int dim) const {
    if (IsOfBlocks(type_)) return dim / 32 * (2 + TokenBytes());
    return dim * (type_ == KvType::kF32 ? 4 : 2);
  }
  void PutKey(int j, int d, int slot, std::byte* page) const {
    if (type_ == KvType::kQ8_0) return PutInt8(k_, j, d, slot, dim_, d % 32 / 4 * 64 + slot % 16 * 4 + d % 4, page);
    if (type_ == KvType::kQ4_0) {
      return PutNibble(k_, j, d, slot, dim_, d % 32 / 8 * 64 + slot % 16 * 4 + d % 4, d % 8 / 4, page);
    }
    Put(k_.values[j * dim_ + d], page, slot / 16 * 16 * dim_ + d * 16 + slot % 16);
  }
  void PutValue(int j, int d, int slot, std::byte* page) const {
    if (type_ == KvType::kQ8_0) return PutInt8(v_, j, d, slot, value_dim_, slot % 16 * 32 + d % 32, page);
    if (type_ == KvType::kQ4_0) {
      return PutNibble(v_, j, d, slot, value_dim_, slot % 16 * 16 + d % 16, d % 32 / 16, page);
    }
    Put(v_.values[j * value_dim_ + d], page, slot * value_dim_ + d);
  }
  // Bytes of a token in a block, beside its scale.
  int TokenBytes() const { return type_ == KvType::kQ8_0 ? 32 : 16; }
  // The first of a block's integers, behind the scales, of which it writes the token's.
  std::byte* Block(const Rows& rows, int j, int d, int slot, int dim, std::byte* page) const {
    std::byte* block = page + (slot / 16 * (dim / 32) + d / 32) * 16 * (2 + TokenBytes());
    std::memcpy(block + slot % 16 * 2, &rows.scales[(j * dim + d) / 32], 2);
    return block + 32;
  }
  void PutInt8(const Rows& rows, int j, int d, int slot, int dim, int at, std::byte* page) const {
    Block(rows, j, d, slot, dim, page)[at] = static_cast<std::byte>(rows.q[j * dim + d]);
  }
  void PutNibble(const Rows& rows, int j, int d, int slot, int dim, int at, int upper, std::byte* page) const {
    std::byte& byte = Block(rows, j, d, slot, dim, page)[at];
    const std::byte nibble{static_cast<uint8_t>(rows.q[j * dim + d] & 15)};
    byte = upper != 0 ? (byte & std::byte{15}) | nibble << 4 : (byte & std::byte{0xf0}) | nibble;
  }
  void Put(float value, std::byte* page, int64_t element) const {
    const uint16_t half =
        type_ == KvType::kF16 ? FloatToHalf(value) : static_cast<uint16_t>(std::bit_cast<uint32_t>(value) >> 16);
    if (type_ == KvType::kF32) {
      std::memcpy(page + element * 4, &value, 4);
    } else {
      std::memcpy(page + element * 2, &half, 2);
    }
  }

  int dim_, value_dim_, num_keys_ = 0;
  KvType type_;
  bool values_in_keys_ = false;
  std::vector<Range> seen_;
  std::vector<float> q_;
  std::vector<int8_t> q8_;
  std::vector<float> scales_;
  std::vector<int32_t> sum16_;
  Rows k_, v_;
};

// The heads of a group, for each of `tokens` consecutive tokens of which the first sees the keys up to `position`.
std::vector<Range> Chunk(int heads, int tokens, int position, int window) {
  std::vector<Range> seen;
  for (int token = 0; token < tokens; ++token) {
    const int end = position + token + 1;
    for (int head = 0; head < heads; ++head) seen.push_back({window > 0 ? std::max(0, end - window) : 0, end});
  }
  return seen;
}

class AttentionTest : public ::testing::TestWithParam<KvType> {
 protected:
  // The lengths that the type takes.
  static std::vector<int> Dims(std::initializer_list<int> dims) {
    std::vector<int> result;
    for (const int dim : dims) {
      if (!IsOfBlocks(GetParam()) || dim % 32 == 0) result.push_back(dim);
    }
    return result;
  }
};

TEST_P(AttentionTest, ScalarMatchesDoubleArithmetic) {
  Rng rng(11);
  for (const int dim : Dims({4, 8, 20, 64, 128})) {
    for (const int num_keys : {1, 2, 16, 17, 40, 100}) {
      const AttentionInput input(rng, dim, num_keys, GetParam(), 2);
      const std::vector<float> out = input.Run(Isa::kScalar, 32);
      const std::vector<double> want = input.Exact();
      for (int d = 0; d < dim; ++d) {
        // A score of up to 128 terms below 4 is off by some 2^-24 * 10 * 128, which is the relative error of its
        // weight; the values are below 4.
        ASSERT_NEAR(out[d], want[d], 4e-4) << dim << " " << num_keys;
      }
      // 32 elements of one value in Q4_0 are of 16 integers.
      const int distinct = num_keys == 1 && GetParam() == KvType::kQ4_0 ? dim / 8 : dim / 2;
      EXPECT_GE(DistinctValues(out), static_cast<size_t>(distinct));
    }
  }
}

TEST_P(AttentionTest, OneKeyGivesItsValue) {
  Rng rng(12);
  for (const Isa isa : SupportedIsas()) {
    const AttentionInput input(rng, 64, 1, GetParam(), 2);
    const std::vector<float> out = input.Run(isa, 16);
    const std::vector<double> want = input.Exact();
    for (int d = 0; d < 64; ++d) EXPECT_EQ(out[d], want[d]);
  }
}

TEST_P(AttentionTest, EveryIsaEqualsScalar) {
  const std::vector<Isa> isas = VectorIsas();
  if (isas.empty()) GTEST_SKIP() << "this machine has no other kernel set";
  Rng rng(13);
  for (const int dim : Dims({4, 8, 12, 16, 20, 28, 32, 60, 64, 72, 80, 96, 100, 112, 128, 192, 256})) {
    for (int num_keys = 1; num_keys <= 140; num_keys += num_keys < 20 || num_keys % 64 > 60 ? 1 : 3) {
      const AttentionInput input(rng, dim, num_keys, GetParam(), num_keys % 5);
      const int page_tokens = num_keys % 2 == 0 ? 16 : 32;
      const std::vector<float> want = input.Run(Isa::kScalar, page_tokens);
      for (const Isa isa : isas) {
        ASSERT_EQ(FirstDifference(want, input.Run(isa, page_tokens)), "")
            << IsaName(isa) << " dim " << dim << " keys " << num_keys;
      }
    }
  }
}

constexpr Extras kExtras[] = {{}, {.cap = 5.0f}, {.sink = true}, {.cap = 2.0f, .sink = true}};
constexpr int kFirstKeys[] = {1, 15, 16, 35};

TEST_P(AttentionTest, WindowCapAndSinkMatchDoubleArithmetic) {
  Rng rng(15);
  for (const Extras& extras : kExtras) {
    for (const int first : kFirstKeys) {
      for (const int num_keys : {36, 48, 100}) {
        const AttentionInput input(rng, 64, {{first, num_keys}}, GetParam(), 2);
        const std::vector<float> out = input.Run(Isa::kScalar, 32, extras);
        const std::vector<double> want = input.Exact(extras);
        for (int d = 0; d < 64; ++d) {
          ASSERT_NEAR(out[d], want[d], 4e-4) << first << " " << extras.cap << " " << num_keys;
        }
      }
    }
  }
}

TEST_P(AttentionTest, WindowCapAndSinkOfEveryIsaEqualScalar) {
  Rng rng(16);
  for (const int dim : Dims({20, 64, 192})) {
    for (const Extras& extras : kExtras) {
      for (const int first : kFirstKeys) {
        for (const int num_keys : {36, 37, 48, 49, 100}) {
          const AttentionInput input(rng, dim, {{first, num_keys}}, GetParam(), num_keys % 5);
          const std::vector<float> want = input.Run(Isa::kScalar, 32, extras);
          for (const Isa isa : VectorIsas()) {
            ASSERT_EQ(FirstDifference(want, input.Run(isa, 32, extras)), "")
                << IsaName(isa) << " dim " << dim << " keys " << num_keys << " from " << first;
          }
        }
      }
    }
  }
}

// A query's result is the same alone and beside any others.
TEST_P(AttentionTest, QueriesOfACallDoNotMeet) {
  Rng rng(18);
  for (const int heads : {1, 3, 4, 7}) {
    for (const int window : {0, 20, 70}) {
      for (const int position : {0, 13, 60, 200}) {
        const int tokens = kMaxAttentionQueries / heads;
        const AttentionInput input(rng, IsOfBlocks(GetParam()) ? 96 : 80, Chunk(heads, tokens, position, window),
                                   GetParam(), 2);
        const int count = heads * tokens;
        std::vector<float> want;
        for (int i = 0; i < count; ++i) {
          const std::vector<float> one = input.RunSome(Isa::kScalar, 32, {}, i, i + 1);
          want.insert(want.end(), one.begin(), one.end());
        }
        EXPECT_GE(DistinctValues(want), want.size() / 2);
        for (const Isa isa : SupportedIsas()) {
          ASSERT_EQ(FirstDifference(want, input.Run(isa, 32)), "")
              << IsaName(isa) << " " << heads << " heads, window " << window << ", position " << position;
        }
      }
    }
  }
}

TEST_P(AttentionTest, AnyNumberOfQueriesWithAnyRangesEqualsScalar) {
  Rng rng(19);
  for (int count = 1; count <= kMaxAttentionQueries; ++count) {
    std::vector<Range> seen;
    for (int i = 0; i < count; ++i) {
      const int first = static_cast<int>(rng() % 150);
      seen.push_back({first, first + 1 + static_cast<int>(rng() % 150)});
    }
    const AttentionInput input(rng, IsOfBlocks(GetParam()) ? 32 : 36, seen, GetParam(), 2);
    const Extras extras = {.cap = count % 2 == 0 ? 3.0f : 0.0f, .sink = count % 3 == 0};
    const std::vector<float> want = input.Run(Isa::kScalar, 48, extras);
    for (const Isa isa : VectorIsas()) {
      ASSERT_EQ(FirstDifference(want, input.Run(isa, 48, extras)), "") << IsaName(isa) << " " << count << " queries";
    }
  }
}

TEST_P(AttentionTest, ValuesMayBeTheBeginningOfTheKeys) {
  Rng rng(17);
  for (const int value_dim : Dims({4, 20, 48, 128, 144, 160})) {
    const std::vector<Range> seen = Chunk(5, 3, 130, 100);
    AttentionInput input = AttentionInput(rng, 160, seen, GetParam(), 1).WithKeysAsValues(value_dim);
    const std::vector<float> want = input.Run(Isa::kScalar, 16);
    input.DropValues();
    for (const Isa isa : SupportedIsas()) {
      EXPECT_EQ(FirstDifference(want, input.Run(isa, 16)), "") << IsaName(isa) << " " << value_dim;
    }
  }
}

// The pages are only a container: their size has no influence on the bits.
TEST_P(AttentionTest, ResultIsIndependentOfPageSize) {
  Rng rng(14);
  const AttentionInput input(rng, 64, Chunk(4, 8, 140, 0), GetParam(), 2);
  const std::vector<float> want = input.Run(Isa::kScalar, 16);
  for (const Isa isa : SupportedIsas()) {
    for (const int page_tokens : {16, 32, 48, 256}) {
      EXPECT_EQ(FirstDifference(want, input.Run(isa, page_tokens)), "") << IsaName(isa) << " " << page_tokens;
    }
  }
}

constexpr const char* kTypeNames[] = {"F32", "F16", "BF16", "Q8_0", "Q4_0"};
INSTANTIATE_TEST_SUITE_P(Pages, AttentionTest, ::testing::ValuesIn(kTypes),
                         [](const auto& info) { return kTypeNames[static_cast<int>(info.param)]; });

}  // namespace
}  // namespace tandem::engine
