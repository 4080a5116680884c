// Plain values only (see kernel_args.h).
#pragma once

namespace tandem::engine {

// A block whose max|x| is smaller is taken as all zero: its scale would be sub-normal and 127 / max near overflow.
inline constexpr float kQuantizeMinMax = 0x1p-119f;

}  // namespace tandem::engine
