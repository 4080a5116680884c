// What a sequence does at the end of the context if it is to go on: it drops its oldest tokens.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "coordinator/scheduler/sequence.h"

namespace tandem::coordinator {

// Errors: kInvalidArgument (negative, or more than half of the context; has both numbers).
absl::Status CheckKeep(int32_t keep, int32_t context);

// The sequence, which fills the context and has nothing computed, loses the oldest of its tokens behind the first
// spec.keep, so many that half of the context behind those is free; of an odd number the larger half.
void DropOldest(int32_t context, Sequence* sequence);

}  // namespace tandem::coordinator
