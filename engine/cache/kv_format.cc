#include "engine/cache/kv_format.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace tandem::engine {
namespace {

constexpr KvFormat kFormats[] = {{KvType::kF32, "f32", 1, 4},
                                 {KvType::kF16, "f16", 1, 2},
                                 {KvType::kBF16, "bf16", 1, 2},
                                 {KvType::kQ8_0, "q8_0", 32, 34},
                                 {KvType::kQ4_0, "q4_0", 32, 18}};

}  // namespace

std::span<const KvFormat> AllKvFormats() { return kFormats; }

const KvFormat& FindKvFormat(KvType type) { return kFormats[static_cast<int>(type)]; }

absl::StatusOr<KvType> ParseKvType(absl::string_view name) {
  for (const KvFormat& format : kFormats) {
    if (format.name == name) return format.type;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("KV type \"", name, "\", expected one of ", absl::StrJoin(KvTypeNames(), ", ")));
}

std::vector<std::string> KvTypeNames() {
  std::vector<std::string> names;
  for (const KvFormat& format : kFormats) names.emplace_back(format.name);
  return names;
}

std::string KvTypeChoices() { return absl::StrCat("Type of the KV cache: ", absl::StrJoin(KvTypeNames(), ", ")); }

uint64_t KvBytes(KvType type, uint64_t elements) {
  const KvFormat& format = FindKvFormat(type);
  return elements / format.block_elements * format.block_bytes;
}

}  // namespace tandem::engine
