// Number format of the KV cache. Plain, as kernel_args.h wants it.
#pragma once

namespace tandem::engine {

enum class KvType { kF32, kF16, kBF16, kQ8_0, kQ4_0 };

}  // namespace tandem::engine
