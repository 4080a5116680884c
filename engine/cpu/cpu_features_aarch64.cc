// The AArch64 half of cpu_features.h. There is no instruction that names the processor, so the kernel is asked.
#include <asm/hwcap.h>
#include <sys/auxv.h>

#include <fstream>
#include <string>
#include <vector>

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

std::vector<Isa> Detect() {
  std::vector<Isa> isas = {Isa::kScalar};
  if ((getauxval(AT_HWCAP) & HWCAP_ASIMDDP) == 0) return isas;
  isas.push_back(Isa::kNeon);
  if ((getauxval(AT_HWCAP2) & HWCAP2_I8MM) != 0) isas.push_back(Isa::kNeonI8mm);
  return isas;
}

}  // namespace

std::span<const Isa> SupportedIsas() {
  static const std::vector<Isa>& isas = *new std::vector<Isa>(Detect());
  return isas;
}

std::string CpuModelName() {
  const std::string implementer = CpuInfo("CPU implementer"), part = CpuInfo("CPU part");
  return implementer.empty() ? "AArch64" : absl::StrCat("AArch64, implementer ", implementer, ", part ", part);
}

}  // namespace tandem::engine
