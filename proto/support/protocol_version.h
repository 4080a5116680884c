#pragma once

#include <cstdint>

namespace tandem::proto_support {

// Version of the messages between our processes (cluster.proto, pipeline.proto). Raised by every incompatible change;
// members of another version are refused.
inline constexpr uint32_t kProtocolVersion = 4;

}  // namespace tandem::proto_support
