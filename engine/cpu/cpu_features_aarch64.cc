// The AArch64 half of cpu_features.h. There is no instruction that names the processor, so the kernel is asked.
#include <fstream>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "engine/cpu/cpu_features.h"

namespace tandem::engine {
namespace {

// The value of a line "KEY : VALUE" of /proc/cpuinfo, or "".
std::string CpuInfo(absl::string_view key) {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    absl::string_view rest = line;
    if (!absl::ConsumePrefix(&rest, key)) continue;
    const size_t value = rest.find_first_not_of(" \t:");
    if (value != absl::string_view::npos) return std::string(rest.substr(value));
  }
  return "";
}

}  // namespace

std::span<const Isa> SupportedIsas() {
  static constexpr Isa kIsas[] = {Isa::kScalar};
  return kIsas;
}

std::string CpuModelName() {
  const std::string implementer = CpuInfo("CPU implementer"), part = CpuInfo("CPU part");
  return implementer.empty() ? "AArch64" : absl::StrCat("AArch64, implementer ", implementer, ", part ", part);
}

}  // namespace tandem::engine
