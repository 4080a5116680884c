// Number format of the KV cache.
#pragma once

#include <cstdint>

namespace tandem::engine {

enum class KvType { kF32, kF16 };

inline constexpr uint64_t KvTypeBytes(KvType type) { return type == KvType::kF32 ? 4 : 2; }

}  // namespace tandem::engine
