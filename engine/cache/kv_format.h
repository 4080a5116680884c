// The number formats of the KV cache: their names and what they cost.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/quant/kv_type.h"

namespace tandem::engine {

struct KvFormat {
  KvType type;
  absl::string_view name;               // of flags
  int32_t block_elements, block_bytes;  // keys and values are whole blocks

  // Whether attention takes queries as int8.
  bool int8_queries() const { return block_elements > 1; }
};

std::span<const KvFormat> AllKvFormats();  // in the order of KvType
const KvFormat& FindKvFormat(KvType type);
// Errors: kInvalidArgument (names those that there are).
absl::StatusOr<KvType> ParseKvType(absl::string_view name);
std::vector<std::string> KvTypeNames();
// For the help of flags.
std::string KvTypeChoices();

// Bytes of `elements` of keys and values, a multiple of the block.
uint64_t KvBytes(KvType type, uint64_t elements);

}  // namespace tandem::engine
