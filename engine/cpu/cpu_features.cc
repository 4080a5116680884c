#include "engine/cpu/cpu_features.h"

#include <algorithm>
#include <array>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace tandem::engine {
namespace {

constexpr std::array kAllIsas = {Isa::kScalar, Isa::kAvx2, Isa::kAvxVnni, Isa::kAvx512,
                                 Isa::kAmx,    Isa::kNeon, Isa::kNeonI8mm};

void AppendName(std::string* out, Isa isa) { absl::StrAppend(out, "'", IsaName(isa), "'"); }

}  // namespace

absl::string_view IsaName(Isa isa) {
  switch (isa) {
    case Isa::kScalar:
      return "scalar";
    case Isa::kAvx2:
      return "avx2";
    case Isa::kAvxVnni:
      return "avx-vnni";
    case Isa::kAvx512:
      return "avx512";
    case Isa::kAmx:
      return "amx";
    case Isa::kNeon:
      return "neon";
    case Isa::kNeonI8mm:
      return "neon-i8mm";
  }
  return "scalar";
}

std::span<const Isa> AllIsas() { return kAllIsas; }

bool IsSupported(Isa isa) { return std::ranges::count(SupportedIsas(), isa) > 0; }

Isa DetectIsa() { return SupportedIsas().back(); }

std::string IsaChoices() {
  return absl::StrCat(
      "auto, ", absl::StrJoin(kAllIsas, ", ", [](std::string* out, Isa isa) { absl::StrAppend(out, IsaName(isa)); }));
}

absl::StatusOr<Isa> ParseIsa(absl::string_view name) {
  if (name.empty() || name == "auto") return DetectIsa();
  for (const Isa isa : kAllIsas) {
    if (name != IsaName(isa)) continue;
    if (IsSupported(isa)) return isa;
    return absl::FailedPreconditionError(absl::StrCat("cpu-isa '", name, "': this machine (", CpuModelName(),
                                                      ") supports ", absl::StrJoin(SupportedIsas(), ", ", AppendName),
                                                      "; use one of those or 'auto'"));
  }
  return absl::InvalidArgumentError(
      absl::StrCat("cpu-isa '", name, "' is unknown; valid are 'auto', ", absl::StrJoin(kAllIsas, ", ", AppendName)));
}

}  // namespace tandem::engine
