// Model files cut into parts, as publishers upload large ones: NAME-00001-of-00004.gguf to NAME-00004-of-00004.gguf.
// Each part is a GGUF file with some of the tensors; the first also has the model's metadata. Every part says which it
// is: split.no (from 0), split.count, and split.tensors.count (tensors of all parts). Source: the GGUF naming
// convention (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md) and the files themselves.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace tandem::engine {

inline constexpr char kSplitNoKey[] = "split.no";
inline constexpr char kSplitCountKey[] = "split.count";
inline constexpr char kSplitTensorsKey[] = "split.tensors.count";
// Every part stays open, so this is also a bound on descriptors. The largest models have some tens of parts.
inline constexpr uint32_t kMaxParts = 512;

// A path whose name ends in -PPPPP-of-NNNNN.gguf.
struct SplitName {
  std::string prefix;  // before that
  uint32_t part = 0;   // 1 to count
  uint32_t count = 0;

  std::string PathOf(uint32_t other_part) const;
};
// Nothing if `path` has no such end, or a part number out of range.
std::optional<SplitName> ParseSplitName(absl::string_view path);

}  // namespace tandem::engine
