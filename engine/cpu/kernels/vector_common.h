// Helpers of all vector kernels. Everything is in an unnamed namespace: each kernel file gets its own copy, compiled
// with its own flags, and no copy can reach other code. No standard library (see kernel_args.h).
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/cpu/kernels/kernel_args.h"

namespace tandem::engine {
namespace {

// Asks for the cache line at `p`, to be near (3: first level, 2: second level). The empty statement counts as an
// effect: GCC takes a function that does nothing but prefetch for one without any, and drops calls of it.
template <int kLevel>
inline void Prefetch(const std::byte* p) {
  __builtin_prefetch(p, 0, kLevel);
  __asm__ volatile("");
}

// Asks for the block that comes kPrefetchBytes after `block`, whose parts a kernel reads in an order that the processor
// does not foresee; for the first tokens of a pass, after which it is in a cache. Beyond the end of the matrix it has
// no effect.
constexpr int kPrefetchBytes = 8192;
template <int kBlockBytes>
inline void PrefetchAfter(const std::byte* block) {
  for (int at = 0; at < kBlockBytes; at += 64) Prefetch<3>(block + kPrefetchBytes + at);
}

// Runs Kernel::Run<kGroups, n>(args, group, row) over all rows of activations from `row` on, n = kMaxRows at a time and
// then those that are left, so that unpacked weights are used n times.
template <typename Kernel, int kGroups, int kRows>
inline void RunLastRows(const MatMulArgs& args, int64_t group, int row) {
  if constexpr (kRows > 0) {
    if (row + kRows == args.rows) return Kernel::template Run<kGroups, kRows>(args, group, row);
    RunLastRows<Kernel, kGroups, kRows - 1>(args, group, row);
  }
}
template <typename Kernel, int kGroups, int kMaxRows>
inline void RunRows(const MatMulArgs& args, int64_t group, int row) {
  for (; row + kMaxRows <= args.rows; row += kMaxRows) Kernel::template Run<kGroups, kMaxRows>(args, group, row);
  RunLastRows<Kernel, kGroups, kMaxRows - 1>(args, group, row);
}

// The same over the groups of `args`, kMaxGroups at a time, so that loaded activations are used so often. Neither
// number has any influence on the bits of a result.
template <typename Kernel, int kMaxGroups, int kMaxRows>
inline void RunGroups(const MatMulArgs& args) {
  int64_t g = args.group_begin;
  for (; g + kMaxGroups <= args.group_end; g += kMaxGroups) RunRows<Kernel, kMaxGroups, kMaxRows>(args, g, 0);
  for (; g < args.group_end; ++g) RunRows<Kernel, 1, kMaxRows>(args, g, 0);
}

}  // namespace
}  // namespace tandem::engine
