#include "engine/model/rope.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "engine/cpu/canonical_math.h"

namespace tandem::engine {
namespace {

constexpr double kPi = 3.14159265358979323846;

// YaRN (Peng et al., 2023) keeps the pairs that turn often within the original context and slows down those that turn
// rarely; in between the two blend along a ramp over the pair's index.
class YarnRamp {
 public:
  explicit YarnRamp(const RopeSpec& spec)
      : low_(std::max(0.0, std::floor(PairOfTurns(spec, spec.yarn_beta_fast)))),
        high_(std::min(spec.dims - 1.0, std::ceil(PairOfTurns(spec, spec.yarn_beta_slow)))),
        strength_(spec.yarn_ext_factor) {}

  // Share of the original frequency that `pair` keeps.
  double Kept(int64_t pair) const {
    const double x = (static_cast<double>(pair) - low_) / std::max(0.001, high_ - low_);
    return (1.0 - std::clamp(x, 0.0, 1.0)) * strength_;
  }

 private:
  // Index, as a real number, of the pair that makes `turns` turns within the original context.
  static double PairOfTurns(const RopeSpec& spec, double turns) {
    return spec.dims * CanonicalLog(spec.original_context / (turns * 2.0 * kPi)) / (2.0 * CanonicalLog(spec.base));
  }
  double low_, high_, strength_;
};

}  // namespace

absl::StatusOr<RopeFrequencies> RopeFrequencies::Create(const RopeSpec& spec, std::span<const float> factors) {
  const int64_t pairs = spec.dims / 2;
  if (!factors.empty() && static_cast<int64_t>(factors.size()) != pairs) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%d rope frequency factors for %d rotating pairs", factors.size(), pairs));
  }
  RopeFrequencies rope;
  rope.magnitude_ = spec.attn_factor;
  std::optional<YarnRamp> ramp;
  if (spec.scaling == RopeScaling::kYarn) ramp.emplace(spec);
  const double slow_down = spec.scaling == RopeScaling::kNone ? 1.0 : 1.0 / spec.factor;
  if (ramp && spec.yarn_ext_factor != 0.0f && spec.factor > 1.0f) {
    rope.magnitude_ *= 1.0 + spec.yarn_log_multiplier * CanonicalLog(spec.factor);
  }
  for (int64_t pair = 0; pair < pairs; ++pair) {
    double original = CanonicalPow(spec.base, -2.0 * static_cast<double>(pair) / spec.dims);
    if (!factors.empty()) original /= factors[pair];
    const double kept = ramp ? ramp->Kept(pair) : 0.0;
    const double radians = original * slow_down * (1.0 - kept) + original * kept;
    if (!(radians > 0.0 && radians <= 1.0)) {
      return absl::InvalidArgumentError(
          absl::StrFormat("rotating pair %d turns by %g radian a position, expected more than 0 and at most 1: the "
                          "tensor rope_freqs.weight or the rope hyperparameters are broken",
                          pair, radians));
    }
    rope.radians_.push_back(radians);
  }
  return rope;
}

void RopeFrequencies::Rotation(int32_t position, float* cos, float* sin) const {
  for (size_t pair = 0; pair < radians_.size(); ++pair) {
    const double angle = position * radians_[pair];
    cos[pair] = static_cast<float>(CanonicalCos(angle) * magnitude_);
    sin[pair] = static_cast<float>(CanonicalSin(angle) * magnitude_);
  }
}

}  // namespace tandem::engine
