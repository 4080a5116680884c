// Attention over paged keys: scalar against double arithmetic, every kernel set against scalar bit by bit.
#include <gtest/gtest.h>

#include <limits>

#include "tests/engine/cpu/kernel_test_support.h"

namespace tandem::engine {
namespace {

using namespace testing;  // NOLINT: tandem::engine::testing

// What a layer may do besides plain attention.
struct Extras {
  int first_key = 0;
  float cap = 0;
  bool sink = false;
};

// A query, and the keys and values of one sequence: [num_keys, head_dim], rounded to half if `f16`.
class AttentionInput {
 public:
  AttentionInput(Rng& rng, int head_dim, int num_keys, bool f16, int magnitude)
      : head_dim_(head_dim), num_keys_(num_keys), f16_(f16), q_(RandomFloats(rng, head_dim, -4, magnitude)) {
    for (std::vector<float>* values : {&k_, &v_}) {
      *values = RandomFloats(rng, static_cast<size_t>(num_keys) * head_dim, -6, 2);
      if (!f16) continue;
      for (float& value : *values) value = HalfToFloat(FloatToHalf(value));
    }
  }

  // Over pages of `page_tokens` keys. Keys beyond num_keys are NaN: they must not be used.
  std::vector<float> Run(Isa isa, int page_tokens, const Extras& extras = {}) const {
    const std::vector<std::vector<std::byte>> k_pages = Pages(k_, page_tokens);
    const std::vector<std::vector<std::byte>> v_pages = Pages(v_, page_tokens);
    std::vector<const std::byte*> k;
    std::vector<const std::byte*> v;
    for (const auto& page : k_pages) k.push_back(page.data());
    for (const auto& page : v_pages) v.push_back(page.data());
    std::vector<float> out(head_dim_ + 4, 777.0f);
    KernelsFor(isa).attention({.q = q_.data(),
                               .k_pages = k.data(),
                               .v_pages = v.data(),
                               .kv_f16 = f16_,
                               .page_tokens = page_tokens,
                               .first_key = extras.first_key,
                               .num_keys = num_keys_,
                               .key_dim = head_dim_,
                               .value_dim = head_dim_,
                               .key_stride = head_dim_,
                               .value_stride = head_dim_,
                               .scale = 0.25f,
                               .cap = extras.cap,
                               .sink = extras.sink ? &kSink : nullptr,
                               .out = out.data()});
    for (int i = 0; i < 4; ++i) EXPECT_EQ(out[head_dim_ + i], 777.0f);
    out.resize(head_dim_);
    return out;
  }

  // Softmax attention in double, without tiles.
  std::vector<double> Exact(const Extras& extras = {}) const {
    std::vector<double> scores(num_keys_, 0.0);
    double max = extras.sink ? kSink : -std::numeric_limits<double>::infinity();
    for (int j = extras.first_key; j < num_keys_; ++j) {
      for (int d = 0; d < head_dim_; ++d) scores[j] += 0.25 * q_[d] * k_[j * head_dim_ + d];
      if (extras.cap > 0) scores[j] = extras.cap * std::tanh(scores[j] / extras.cap);
      max = std::max(max, scores[j]);
    }
    double sum = extras.sink ? std::exp(kSink - max) : 0;
    std::vector<double> out(head_dim_, 0.0);
    for (int j = extras.first_key; j < num_keys_; ++j) {
      const double p = std::exp(scores[j] - max);
      sum += p;
      for (int d = 0; d < head_dim_; ++d) out[d] += p * v_[j * head_dim_ + d];
    }
    for (double& o : out) o /= sum;
    return out;
  }

  // Several query heads may share keys whose beginnings are the values, as compressed attention does: the result over
  // the first `value_dim` elements of the keys.
  std::vector<float> RunOverKeys(Isa isa, int page_tokens, int value_dim) const {
    const std::vector<std::vector<std::byte>> pages = Pages(k_, page_tokens);
    std::vector<const std::byte*> k;
    for (const auto& page : pages) k.push_back(page.data());
    std::vector<float> out(value_dim + 4, 777.0f);
    KernelsFor(isa).attention({.q = q_.data(),
                               .k_pages = k.data(),
                               .v_pages = k.data(),
                               .kv_f16 = f16_,
                               .page_tokens = page_tokens,
                               .first_key = 0,
                               .num_keys = num_keys_,
                               .key_dim = head_dim_,
                               .value_dim = value_dim,
                               .key_stride = head_dim_,
                               .value_stride = head_dim_,
                               .scale = 0.25f,
                               .cap = 0,
                               .sink = nullptr,
                               .out = out.data()});
    for (int i = 0; i < 4; ++i) EXPECT_EQ(out[value_dim + i], 777.0f);
    out.resize(value_dim);
    return out;
  }
  // The same input with the keys for values.
  AttentionInput WithKeysAsValues() const {
    AttentionInput result = *this;
    result.v_ = k_;
    return result;
  }

 private:
  static constexpr float kSink = 0.75f;

  std::vector<std::vector<std::byte>> Pages(const std::vector<float>& values, int page_tokens) const {
    const int element = f16_ ? 2 : 4;
    const size_t page_elements = static_cast<size_t>(page_tokens) * head_dim_;
    std::vector<std::vector<std::byte>> pages((values.size() + page_elements - 1) / page_elements);
    for (size_t i = 0; i < pages.size() * page_elements; ++i) {
      std::vector<std::byte>& page = pages[i / page_elements];
      page.resize(page_elements * element);
      const float value = i < values.size() ? values[i] : std::numeric_limits<float>::quiet_NaN();
      const uint16_t half = FloatToHalf(value);
      std::memcpy(page.data() + i % page_elements * element, f16_ ? static_cast<const void*>(&half) : &value, element);
    }
    return pages;
  }

  int head_dim_, num_keys_;
  bool f16_;
  std::vector<float> q_, k_, v_;
};

class AttentionTest : public ::testing::TestWithParam<bool> {};

TEST_P(AttentionTest, ScalarMatchesDoubleArithmetic) {
  Rng rng(11);
  for (const int head_dim : {4, 8, 20, 64, 128}) {
    for (const int num_keys : {1, 2, 16, 17, 40, 100}) {
      const AttentionInput input(rng, head_dim, num_keys, GetParam(), 2);
      const std::vector<float> out = input.Run(Isa::kScalar, 32);
      const std::vector<double> want = input.Exact();
      for (int d = 0; d < head_dim; ++d) {
        // A score of up to 128 terms below 4 is off by some 2^-24 * 10 * 128, which is the relative error of its
        // weight; the values are below 4.
        ASSERT_NEAR(out[d], want[d], 4e-4) << head_dim << " " << num_keys;
      }
      EXPECT_GE(DistinctValues(out), static_cast<size_t>(head_dim - 1));
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
  if (isas.empty()) GTEST_SKIP() << "this machine has no AVX2";
  Rng rng(13);
  for (const int head_dim : {4, 8, 12, 16, 20, 28, 32, 60, 64, 72, 80, 96, 100, 112, 128, 192, 256}) {
    for (int num_keys = 1; num_keys <= 70; ++num_keys) {
      const AttentionInput input(rng, head_dim, num_keys, GetParam(), num_keys % 5);
      const int page_tokens = num_keys % 2 == 0 ? 16 : 32;
      const std::vector<float> want = input.Run(Isa::kScalar, page_tokens);
      for (const Isa isa : isas) {
        ASSERT_EQ(FirstDifference(want, input.Run(isa, page_tokens)), "")
            << IsaName(isa) << " head_dim " << head_dim << " keys " << num_keys;
      }
    }
  }
}

constexpr Extras kExtras[] = {{.first_key = 1},
                              {.first_key = 15},
                              {.first_key = 16},
                              {.first_key = 35},
                              {.cap = 5.0f},
                              {.sink = true},
                              {.first_key = 20, .cap = 2.0f, .sink = true}};

TEST_P(AttentionTest, WindowCapAndSinkMatchDoubleArithmetic) {
  Rng rng(15);
  for (const Extras& extras : kExtras) {
    for (const int num_keys : {36, 48, 100}) {
      const AttentionInput input(rng, 64, num_keys, GetParam(), 2);
      const std::vector<float> out = input.Run(Isa::kScalar, 32, extras);
      const std::vector<double> want = input.Exact(extras);
      for (int d = 0; d < 64; ++d) {
        ASSERT_NEAR(out[d], want[d], 4e-4) << extras.first_key << " " << extras.cap << " " << num_keys;
      }
    }
  }
}

TEST_P(AttentionTest, WindowCapAndSinkOfEveryIsaEqualScalar) {
  Rng rng(16);
  for (const int head_dim : {20, 64, 192}) {
    for (const Extras& extras : kExtras) {
      for (const int num_keys : {36, 37, 48, 49, 100}) {
        const AttentionInput input(rng, head_dim, num_keys, GetParam(), num_keys % 5);
        const std::vector<float> want = input.Run(Isa::kScalar, 32, extras);
        for (const Isa isa : VectorIsas()) {
          ASSERT_EQ(FirstDifference(want, input.Run(isa, 32, extras)), "")
              << IsaName(isa) << " head_dim " << head_dim << " keys " << num_keys << " from " << extras.first_key;
        }
      }
    }
  }
}

TEST_P(AttentionTest, ValuesMayBeTheBeginningOfTheKeys) {
  Rng rng(17);
  const AttentionInput input = AttentionInput(rng, 144, 50, GetParam(), 1).WithKeysAsValues();
  std::vector<float> want = input.Run(Isa::kScalar, 16);
  want.resize(128);
  for (const Isa isa : SupportedIsas()) {
    EXPECT_EQ(FirstDifference(want, input.RunOverKeys(isa, 16, 128)), "") << IsaName(isa);
  }
}

// The pages are only a container: their size has no influence on the bits.
TEST_P(AttentionTest, ResultIsIndependentOfPageSize) {
  Rng rng(14);
  const AttentionInput input(rng, 64, 100, GetParam(), 2);
  const std::vector<float> want = input.Run(Isa::kScalar, 16);
  for (const Isa isa : SupportedIsas()) {
    for (const int page_tokens : {16, 32, 48, 256}) {
      EXPECT_EQ(FirstDifference(want, input.Run(isa, page_tokens)), "") << IsaName(isa) << " " << page_tokens;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Pages, AttentionTest, ::testing::Bool(),
                         [](const auto& info) { return info.param ? "F16" : "F32"; });

}  // namespace
}  // namespace tandem::engine
