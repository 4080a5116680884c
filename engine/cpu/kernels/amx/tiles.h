// The tile registers of AMX as matmul_tiles.h uses them. Rules as in kernels/vector_common.h.
#pragma once

#include "engine/cpu/kernels/amx/tile_shapes.h"

namespace tandem::engine {
namespace {

// Assembler instead of intrinsics: GCC's are macros that want the number of a tile as a literal, which a template
// argument is not, and that of TILELOADD does not say that it reads memory.
struct Tiles {
  static void Configure(const TileShapes& shapes) { __asm__ volatile("ldtilecfg %0" ::"m"(shapes)); }
  // Without it every switch of threads would save 8 KiB of tiles from now on.
  static void Release() { __asm__ volatile("tilerelease" ::); }

  template <int kTile>
  static void Zero() {
    __asm__ volatile("tilezero %%tmm%c0" ::"i"(kTile));
  }
  // Rows `stride` bytes apart.
  template <int kTile>
  static void Load(const void* rows, int64_t stride) {
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(rows), "r"(stride), "i"(kTile) : "memory");
  }
  template <int kTile>
  static void Store(void* rows, int64_t stride) {
    __asm__ volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(rows), "r"(stride), "i"(kTile) : "memory");
  }
  // kSum[m][n] += sum over k of kX[m][k] * kWeights[k / 4][4 n + k % 4], activations signed.
  template <int kSum, int kX, int kWeights>
  static void DotSigned() {
    __asm__ volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kSum), "i"(kX), "i"(kWeights));
  }
  template <int kSum, int kX, int kWeights>
  static void DotUnsigned() {  // the weights
    __asm__ volatile("tdpbsud %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kSum), "i"(kX), "i"(kWeights));
  }
};

}  // namespace
}  // namespace tandem::engine
