#include "engine/cpu/cpu_features.h"

#include "absl/strings/str_cat.h"

namespace tandem::engine {

absl::string_view IsaName(Isa isa) {
  switch (isa) {
    case Isa::kScalar:
      return "scalar";
    case Isa::kAvx2:
      return "avx2";
    case Isa::kAvx512:
      return "avx512";
  }
  return "scalar";
}

absl::StatusOr<Isa> ParseIsa(absl::string_view name) {
  const Isa best = DetectIsa();
  if (name.empty() || name == "auto") return best;
  for (const Isa isa : {Isa::kScalar, Isa::kAvx2, Isa::kAvx512}) {
    if (name != IsaName(isa)) continue;
    if (isa <= best) return isa;
    return absl::FailedPreconditionError(absl::StrCat("cpu-isa '", name, "': this machine (", CpuModelName(),
                                                      ") supports at most '", IsaName(best), "'; use that or 'auto'"));
  }
  return absl::InvalidArgumentError(
      absl::StrCat("cpu-isa '", name, "' is unknown; valid are 'auto', 'scalar', 'avx2' and 'avx512'"));
}

}  // namespace tandem::engine
