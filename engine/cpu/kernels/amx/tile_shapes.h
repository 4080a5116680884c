// The shapes of the eight tile registers of AMX, as LDTILECFG reads them (Intel SDM volume 1, chapter 18). Plain values
// only (see kernel_args.h).
#pragma once

#include <cstdint>

namespace tandem::engine {
namespace {

constexpr int kTiles = 8;

struct alignas(64) TileShapes {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved_a[14] = {};
  uint16_t row_bytes[kTiles] = {};
  uint16_t reserved_b[8] = {};
  uint8_t rows[kTiles] = {};
  uint8_t reserved_c[8] = {};
};
static_assert(sizeof(TileShapes) == 64);

// Results in tiles 0..3, 16 tokens x 16 rows of int32; activations in 4 and 5, 16 tokens x kElements; weights in 6 and
// 7, kElements / 4 units of 16 rows.
template <int kElements>
constexpr TileShapes ShapesFor() {
  TileShapes shapes;
  for (int tile = 0; tile < kTiles; ++tile) {
    shapes.row_bytes[tile] = tile == 4 || tile == 5 ? kElements : 64;
    shapes.rows[tile] = tile >= 6 ? kElements / 4 : 16;
  }
  return shapes;
}

}  // namespace
}  // namespace tandem::engine
