// Rotary position embedding: the cosines and sines of the positions of a step. All in double precision by canonical
// functions, then rounded once, so every machine rotates by the same bits.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/model/model_spec.h"

namespace tandem::engine {

// Angle per position of each rotating pair, and the magnitude that goes with the angles. Immutable, hence thread-safe.
class RopeFrequencies {
 public:
  RopeFrequencies() = default;  // no pairs
  // `factors` divide the frequencies one by one (Llama 3's rope_freqs tensor): [spec.dims / 2], or empty. Errors:
  // kInvalidArgument (another size; a frequency that is not in (0, 1] radian a position).
  static absl::StatusOr<RopeFrequencies> Create(const RopeSpec& spec, std::span<const float> factors);

  // Writes the cosine and sine of each pair at `position` < kMaxPositions, both times the magnitude: [pairs()].
  void Rotation(int32_t position, float* cos, float* sin) const;

  int64_t pairs() const { return static_cast<int64_t>(radians_.size()); }

 private:
  std::vector<double> radians_;  // per position, [dims / 2]
  double magnitude_ = 1.0;
};

}  // namespace tandem::engine
