// Access to the reference data: models and what another engine computes with them. They lie in a folder outside the
// repository ($TANDEM_REFERENCE, or ../shared/reference beside it); without it the tests that need them are skipped.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace tandem::testing {

// The folder, without a slash at its end; empty if there is none.
std::string ReferenceFolder();

// What a skipped test says.
inline constexpr char kNoReference[] = "no reference folder: set TANDEM_REFERENCE to it";

// The token sequence behind every *.logits.f32 file, and the prompt (its first five) behind every *.greedy file.
inline constexpr std::array<int32_t, 32> kReferenceTokens = {1,   403, 407, 261, 378, 432, 383, 286, 261, 376, 298,
                                                             315, 421, 395, 317, 426, 338, 401, 396, 267, 337, 410,
                                                             408, 419, 292, 411, 322, 265, 282, 295, 433, 426};
inline constexpr size_t kReferencePromptTokens = 5;

// Contents of a file below the reference folder. Empty if it cannot be read, which fails the test that compares with
// it.
std::vector<float> ReadReferenceFloats(const std::string& path);              // little-endian float32
std::vector<int32_t> ReadReferenceIds(const std::string& path);               // decimal numbers, separated by spaces
double ReadReferenceNumber(const std::string& path, const std::string& key);  // of a JSON object; NaN if absent

// One prompt of a models/*.json file.
struct ReferenceStory {
  std::string prompt;
  std::vector<int32_t> prompt_ids;
  std::vector<int32_t> greedy_ids;
  std::string greedy_text;
};
std::vector<ReferenceStory> ReadReferenceStories(const std::string& path);

// Bounds on the relative error of logits that come with the reference data. F32 differs by the order of sums alone, F16
// keys and values by 11 bits; eight-bit activations may cost us this many times what they cost the reference engine.
inline constexpr double kMaxErrorF32 = 1e-4;
inline constexpr double kMaxErrorF16Kv = 2e-3;
inline constexpr double kMaxErrorBF16Kv = 8 * kMaxErrorF16Kv;  // three bits fewer
inline constexpr double kMaxErrorQ8_0Kv = 5e-2;                // int8 queries, keys and values
inline constexpr double kMaxErrorQ4_0Kv = 4e-1;                // keys and values of four bits
inline constexpr double kMaxErrorRatio = 1.05;

// ||a - b|| / ||b|| in double precision; infinity if the sizes differ or b is empty.
double RelativeError(std::span<const float> a, std::span<const float> b);

}  // namespace tandem::testing
