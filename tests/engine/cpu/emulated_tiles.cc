// Compiled with AVX-512: the rules of engine/cpu/kernels/kernel_args.h hold here.
#include "tests/engine/cpu/emulated_tiles.h"

#include "engine/cpu/kernels/amx/matmul_tiles.h"

namespace tandem::engine {
namespace {

// Intel SDM volume 2, "TDPBSSD" and its neighbours.
struct EmulatedTiles {
  struct Tile {
    uint8_t bytes[16][64];
  };
  static inline bool configured = false;
  static inline int faults = 0;
  static inline TileShapes shapes;
  static inline Tile tile[kTiles];

  static bool Check(bool holds) {
    if (!holds) ++faults;
    return holds;
  }

  static void Configure(const TileShapes& wanted) {
    Check(!configured && wanted.palette == 1 && wanted.start_row == 0);
    for (const uint8_t byte : wanted.reserved_a) Check(byte == 0);
    for (const uint16_t word : wanted.reserved_b) Check(word == 0);
    for (const uint8_t byte : wanted.reserved_c) Check(byte == 0);
    for (int i = 0; i < kTiles; ++i) {
      Check(wanted.rows[i] > 0 && wanted.rows[i] <= 16 && wanted.row_bytes[i] > 0 && wanted.row_bytes[i] <= 64);
    }
    shapes = wanted;
    configured = true;
    __builtin_memset(tile, 0x5a, sizeof(tile));  // nobody may count on what a tile holds
  }
  static void Release() {
    Check(configured);
    configured = false;
  }
  template <int kTile>
  static void Zero() {
    Check(configured);
    __builtin_memset(&tile[kTile], 0, sizeof(Tile));
  }
  template <int kTile>
  static void Load(const void* rows, int64_t stride) {
    if (!Check(configured)) return;
    __builtin_memset(&tile[kTile], 0, sizeof(Tile));
    for (int i = 0; i < shapes.rows[kTile]; ++i) {
      __builtin_memcpy(tile[kTile].bytes[i], static_cast<const char*>(rows) + i * stride, shapes.row_bytes[kTile]);
    }
  }
  template <int kTile>
  static void Store(void* rows, int64_t stride) {
    if (!Check(configured)) return;
    for (int i = 0; i < shapes.rows[kTile]; ++i) {
      __builtin_memcpy(static_cast<char*>(rows) + i * stride, tile[kTile].bytes[i], shapes.row_bytes[kTile]);
    }
  }
  template <int kSum, int kX, int kWeights>
  static void DotSigned() {
    Dot<int8_t>(kSum, kX, kWeights);
  }
  template <int kSum, int kX, int kWeights>
  static void DotUnsigned() {
    Dot<uint8_t>(kSum, kX, kWeights);
  }

  template <typename Weight>
  static void Dot(int sum, int x, int weights) {
    const int depth = shapes.rows[weights];
    const bool different = sum != x && sum != weights && x != weights;
    if (!Check(configured && different && shapes.row_bytes[x] == 4 * depth && shapes.rows[x] == shapes.rows[sum] &&
               shapes.row_bytes[weights] == shapes.row_bytes[sum])) {
      return;
    }
    for (int m = 0; m < shapes.rows[sum]; ++m) {
      for (int n = 0; n < shapes.row_bytes[sum] / 4; ++n) {
        int32_t total;
        __builtin_memcpy(&total, tile[sum].bytes[m] + 4 * n, sizeof(total));
        for (int k = 0; k < 4 * depth; ++k) {
          const auto value = static_cast<int8_t>(tile[x].bytes[m][k]);
          total += value * static_cast<Weight>(tile[weights].bytes[k / 4][4 * n + k % 4]);
        }
        __builtin_memcpy(tile[sum].bytes[m] + 4 * n, &total, sizeof(total));
      }
    }
  }
};

template <TensorType... kTypes>
KernelTable::MatMul Find(TensorType type) {
  KernelTable::MatMul found = nullptr;
  ((found = type == kTypes ? MatMulOnTiles<EmulatedTiles, kTypes> : found), ...);
  return found;
}

}  // namespace

namespace testing {

KernelTable::MatMul EmulatedTileMatMul(TensorType type) {
  using enum TensorType;
  return Find<kQ4_0, kQ4_1, kQ5_0, kQ5_1, kQ8_0, kQ2_K, kQ3_K, kQ4_K, kQ5_K, kQ6_K, kIQ4_NL, kIQ4_XS, kMXFP4, kTQ1_0,
              kTQ2_0, kIQ2_XXS, kIQ2_XS, kIQ2_S, kIQ3_XXS, kIQ3_S, kIQ1_S, kIQ1_M>(type);
}

int TakeTileFaults() {
  const int faults = EmulatedTiles::faults + (EmulatedTiles::configured ? 1 : 0);
  EmulatedTiles::faults = 0;
  return faults;
}

}  // namespace testing
}  // namespace tandem::engine
