#include "engine/cpu/pack_blocks.h"

#include <cstring>

#include "engine/cpu/kernels/kernel_args.h"

namespace tandem::engine {
namespace {

// One element of a plain type.
template <int kBytes>
void PackPlain(const std::byte* const* rows, std::byte* out) {
  std::memset(out, 0, kRowGroup * kBytes);
  for (int lane = 0; lane < kRowGroup; ++lane) {
    if (rows[lane] != nullptr) std::memcpy(out + lane * kBytes, rows[lane], kBytes);
  }
}

// File: f16 d | int8 q[32].
void PackQ8_0(const std::byte* const* rows, std::byte* out) {
  std::memset(out, 0, kRowGroup * 34);
  std::byte* q = out + 2 * kRowGroup;
  for (int lane = 0; lane < kRowGroup; ++lane) {
    const std::byte* in = rows[lane];
    if (in == nullptr) continue;
    std::memcpy(out + 2 * lane, in, 2);
    for (int u = 0; u < 8; ++u) std::memcpy(q + (u * kRowGroup + lane) * 4, in + 2 + 4 * u, 4);
  }
}

// File: f16 d | f16 dmin | 12 bytes of 6-bit scales and mins | u8 qs[128], where byte 32c + i holds element 64c + i in
// its low nibble and 64c + 32 + i in its high one. Scales j < 4 are in the low 6 bits of byte j and mins in those of
// byte 4 + j; for j >= 4 byte 4 + j has the low nibbles of both and the top bits of bytes j - 4 and j the rest.
void PackQ4_K(const std::byte* const* rows, std::byte* out) {
  std::memset(out, 0, kRowGroup * 148);
  std::byte* scales = out + 4 * kRowGroup;
  std::byte* mins = scales + 8 * kRowGroup;
  std::byte* q = mins + 8 * kRowGroup;
  for (int lane = 0; lane < kRowGroup; ++lane) {
    const std::byte* in = rows[lane];
    if (in == nullptr) continue;
    std::memcpy(out + 2 * lane, in, 2);
    std::memcpy(out + 2 * (kRowGroup + lane), in + 2, 2);
    uint8_t s[12];
    std::memcpy(s, in + 4, sizeof(s));
    for (int j = 0; j < 8; ++j) {
      const int scale = j < 4 ? s[j] & 63 : (s[j + 4] & 15) | (s[j - 4] >> 6 << 4);
      const int min = j < 4 ? s[j + 4] & 63 : (s[j + 4] >> 4) | (s[j] >> 6 << 4);
      scales[j * kRowGroup + lane] = static_cast<std::byte>(scale);
      mins[j * kRowGroup + lane] = static_cast<std::byte>(min);
    }
    for (int v = 0; v < 32; ++v) std::memcpy(q + (v * kRowGroup + lane) * 4, in + 16 + 4 * v, 4);
  }
}

// File: u8 ql[128] | u8 qh[64] | i8 scales[16] | f16 d. Half h of the block (128 elements) has ql[64h..] and qh[32h..];
// for i < 32 its elements i, 32 + i, 64 + i, 96 + i take their low nibbles from ql[i] low, ql[32 + i] low, ql[i] high,
// ql[32 + i] high, and their top bits from the four bit pairs of qh[i], lowest first.
void PackQ6_K(const std::byte* const* rows, std::byte* out) {
  std::memset(out, 0, kRowGroup * 210);
  std::byte* scales = out + 2 * kRowGroup;
  std::byte* vectors = scales + 16 * kRowGroup;
  for (int lane = 0; lane < kRowGroup; ++lane) {
    const std::byte* in = rows[lane];
    if (in == nullptr) continue;
    uint8_t ql[128];
    uint8_t qh[64];
    std::memcpy(ql, in, sizeof(ql));
    std::memcpy(qh, in + 128, sizeof(qh));
    for (int j = 0; j < 16; ++j) scales[j * kRowGroup + lane] = in[192 + j];
    std::memcpy(out + 2 * lane, in + 208, 2);
    for (int e = 0; e < 256; ++e) {
      const int half = e / 128;
      const int quarter = e % 128 / 32;
      const int i = e % 32;
      const int nibble = ql[64 * half + 32 * (quarter % 2) + i] >> (4 * (quarter / 2)) & 15;
      const int pair = qh[32 * half + i] >> (2 * quarter) & 3;
      const int unit = e / 4;
      const int low = 3 * (unit % 16) + unit / 16 % 2;
      const int top = 3 * (unit % 16) + 2;
      vectors[(low * kRowGroup + lane) * 4 + e % 4] |= static_cast<std::byte>(nibble << (4 * (unit / 32)));
      vectors[(top * kRowGroup + lane) * 4 + e % 4] |= static_cast<std::byte>(pair << (2 * (unit / 16)));
    }
  }
}

constexpr BlockPacker kPackers[] = {
    {TensorType::kF32, 1, 4, 4, PackPlain<4>},    {TensorType::kF16, 1, 2, 2, PackPlain<2>},
    {TensorType::kQ8_0, 32, 34, 34, PackQ8_0},    {TensorType::kQ4_K, 256, 144, 148, PackQ4_K},
    {TensorType::kQ6_K, 256, 210, 210, PackQ6_K},
};

}  // namespace

const BlockPacker* FindBlockPacker(TensorType type) {
  for (const BlockPacker& packer : kPackers) {
    if (packer.type == type) return &packer;
  }
  return nullptr;
}

}  // namespace tandem::engine
