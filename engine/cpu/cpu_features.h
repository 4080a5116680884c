// What this processor can execute, and the choice of kernel set. Compiled without ISA flags: safe on any machine
// of its architecture, x86-64 or AArch64.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tandem::engine {

// Kernel sets, weakest first. kAvx2 = AVX2 + FMA + F16C; kAvx512 = AVX-512 F, BW, DQ, VL and VNNI.
enum class Isa { kScalar = 0, kAvx2 = 1, kAvx512 = 2 };

absl::string_view IsaName(Isa isa);  // "scalar", "avx2", "avx512": the values of --cpu-isa
// The strongest set that both the processor (CPUID) and the operating system (XCR0: saved register state) support.
Isa DetectIsa();
// "auto" or "" gives DetectIsa(). Errors: kInvalidArgument (unknown name; the message lists the valid ones),
// kFailedPrecondition (this machine cannot run it; the message says what it can).
absl::StatusOr<Isa> ParseIsa(absl::string_view name);

// Brand string of the processor, for people ("AMD EPYC ..."); "unknown" where there is none.
std::string CpuModelName();

}  // namespace tandem::engine
