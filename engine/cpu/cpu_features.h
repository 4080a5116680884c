// What this processor can execute, and the choice of kernel set. Compiled without ISA flags: safe on any machine
// of its architecture, x86-64 or AArch64.
#pragma once

#include <span>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tandem::engine {

// Kernel sets, those of an architecture weakest first. kAvx2 = AVX2 + FMA + F16C; kAvxVnni = that and AVX-VNNI; kAvx512
// = AVX-512 F, BW, DQ, VL and VNNI; kAmx = that and AMX-TILE and AMX-INT8. kNeon = Advanced SIMD with dot products;
// kNeonI8mm = that and the products of int8 matrices.
enum class Isa { kScalar = 0, kAvx2 = 1, kAvxVnni = 2, kAvx512 = 3, kAmx = 4, kNeon = 5, kNeonI8mm = 6 };

absl::string_view IsaName(Isa isa);  // "scalar", "avx2", "avx-vnni", ...: the values of --cpu-isa
// Every set of every architecture, in the order of their numbers.
std::span<const Isa> AllIsas();
// The sets that both the processor and the operating system (saved register state) support: kScalar and those of this
// architecture, weakest first. Found once; thread-safe.
std::span<const Isa> SupportedIsas();
bool IsSupported(Isa isa);
Isa DetectIsa();  // the strongest
// "auto, scalar, avx2, ...": what ParseIsa takes, for help texts.
std::string IsaChoices();
// "auto" or "" gives DetectIsa(). Errors: kInvalidArgument (unknown name; the message lists the valid ones),
// kFailedPrecondition (this machine cannot run it; the message says what it can).
absl::StatusOr<Isa> ParseIsa(absl::string_view name);

// Brand string of the processor, for people ("AMD EPYC ..."); "unknown" where there is none.
std::string CpuModelName();

}  // namespace tandem::engine
