#include "engine/base/format_bytes.h"

#include "absl/strings/str_format.h"

namespace tandem {

std::string FormatBytes(uint64_t bytes) {
  const double value = static_cast<double>(bytes);
  if (bytes >= uint64_t{1} << 30) return absl::StrFormat("%.2f GiB", value / (1 << 30));
  if (bytes >= uint64_t{1} << 20) return absl::StrFormat("%.1f MiB", value / (1 << 20));
  if (bytes >= uint64_t{1} << 10) return absl::StrFormat("%.1f KiB", value / (1 << 10));
  return absl::StrFormat("%d B", bytes);
}

}  // namespace tandem
