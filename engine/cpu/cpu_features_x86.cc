// The x86-64 half of cpu_features.h: CPUID and XGETBV.
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <vector>

#include "absl/strings/ascii.h"
#include "engine/cpu/cpu_features.h"

namespace tandem::engine {
namespace {

struct CpuidLeaf {
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
};

CpuidLeaf Cpuid(uint32_t leaf, uint32_t subleaf = 0) {
  CpuidLeaf r;
  if (__get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx) == 0) return {};
  return r;
}

constexpr bool Bit(uint32_t word, int bit) { return (word >> bit & 1) != 0; }

// Register state that the operating system saves. Only where CPUID reports OSXSAVE.
uint64_t ReadXcr0() {
  uint32_t low = 0;
  uint32_t high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return static_cast<uint64_t>(high) << 32 | low;
}

// Linux gives the tiles only to processes that ask (Documentation/arch/x86/xstate.rst): for all threads, those to come
// included. A sandbox may refuse, and so does Linux where a signal stack is too small to save them on.
bool MayUseTiles() {
  constexpr long kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr long kTileData = 18;               // XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

std::vector<Isa> Detect() {
  constexpr uint64_t kAvxState = 0x6;      // XMM, upper halves of YMM
  constexpr uint64_t kAvx512State = 0xe6;  // and masks, upper halves of ZMM, ZMM16..31
  constexpr uint64_t kTileState = 0x60000;
  std::vector<Isa> isas = {Isa::kScalar};
  const CpuidLeaf basic = Cpuid(1);
  const bool osxsave = Bit(basic.ecx, 27);
  if (!osxsave) return isas;
  const uint64_t xcr0 = ReadXcr0();
  const CpuidLeaf extended = Cpuid(7);
  const bool fma = Bit(basic.ecx, 12);
  const bool f16c = Bit(basic.ecx, 29);
  const bool avx = Bit(basic.ecx, 28);
  const bool avx2 = Bit(extended.ebx, 5);
  if (!(avx && avx2 && fma && f16c) || (xcr0 & kAvxState) != kAvxState) return isas;
  isas.push_back(Isa::kAvx2);
  if (Bit(Cpuid(7, 1).eax, 4)) isas.push_back(Isa::kAvxVnni);
  const bool avx512 = Bit(extended.ebx, 16) && Bit(extended.ebx, 17) && Bit(extended.ebx, 30) &&
                      Bit(extended.ebx, 31) && Bit(extended.ecx, 11);  // F, DQ, BW, VL, VNNI
  if (!avx512 || (xcr0 & kAvx512State) != kAvx512State) return isas;
  isas.push_back(Isa::kAvx512);
  const bool amx = Bit(extended.edx, 24) && Bit(extended.edx, 25);  // TILE, INT8
  if (amx && (xcr0 & kTileState) == kTileState && MayUseTiles()) isas.push_back(Isa::kAmx);
  return isas;
}

}  // namespace

std::span<const Isa> SupportedIsas() {
  static const std::vector<Isa>& isas = *new std::vector<Isa>(Detect());
  return isas;
}

std::string CpuModelName() {
  constexpr uint32_t kFirstBrandLeaf = 0x80000002;
  constexpr uint32_t kLastBrandLeaf = 0x80000004;
  if (static_cast<uint32_t>(__get_cpuid_max(kFirstBrandLeaf - 2, nullptr)) < kLastBrandLeaf) return "unknown";
  char brand[49] = {};
  for (uint32_t leaf = kFirstBrandLeaf; leaf <= kLastBrandLeaf; ++leaf) {
    const CpuidLeaf r = Cpuid(leaf);
    std::memcpy(brand + 16 * (leaf - kFirstBrandLeaf), &r, sizeof(r));
  }
  const absl::string_view name = absl::StripAsciiWhitespace(brand);
  return name.empty() ? "unknown" : std::string(name);
}

}  // namespace tandem::engine
