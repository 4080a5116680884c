// Encodings and meaning: Intel SDM volume 2, "LDTILECFG", "TILELOADD", "TDPBSSD" and their neighbours. All have the
// three-byte VEX prefix with opcode map 0F38; the operands of a product are reg, rm and vvvv.
#include "tests/engine/cpu/tile_emulator.h"

#include <signal.h>
#include <ucontext.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>

#include "engine/cpu/kernels/amx/tile_shapes.h"

namespace tandem::engine::testing {
namespace {

// Written by the handler, which runs on the thread that uses the tiles.
struct Machine {
  struct Tile {
    uint8_t bytes[16][64];
  };
  bool configured = false;
  int executed = 0, faults = 0;
  TileShapes shapes;
  Tile tile[kTiles];
};
Machine g_machine;
struct sigaction g_before;

bool Check(bool holds) {
  if (!holds) ++g_machine.faults;
  return holds;
}

void Configure(const void* from) {
  Machine& m = g_machine;
  std::memcpy(&m.shapes, from, sizeof(m.shapes));
  Check(!m.configured && m.shapes.palette == 1 && m.shapes.start_row == 0);
  for (const uint8_t byte : m.shapes.reserved_a) Check(byte == 0);
  for (const uint16_t word : m.shapes.reserved_b) Check(word == 0);
  for (const uint8_t byte : m.shapes.reserved_c) Check(byte == 0);
  for (int i = 0; i < kTiles; ++i) {
    Check(m.shapes.rows[i] > 0 && m.shapes.rows[i] <= 16 && m.shapes.row_bytes[i] > 0 && m.shapes.row_bytes[i] <= 64);
  }
  m.configured = true;
  std::memset(m.tile, 0, sizeof(m.tile));
}

void Release() {
  Check(g_machine.configured);
  g_machine.configured = false;
}

void Load(int tile, const uint8_t* rows, int64_t stride) {
  Machine& m = g_machine;
  if (!Check(m.configured)) return;
  std::memset(&m.tile[tile], 0, sizeof(m.tile[tile]));
  for (int i = 0; i < m.shapes.rows[tile]; ++i) {
    std::memcpy(m.tile[tile].bytes[i], rows + i * stride, m.shapes.row_bytes[tile]);
  }
}

void Store(int tile, uint8_t* rows, int64_t stride) {
  const Machine& m = g_machine;
  if (!Check(m.configured)) return;
  for (int i = 0; i < m.shapes.rows[tile]; ++i) {
    std::memcpy(rows + i * stride, m.tile[tile].bytes[i], m.shapes.row_bytes[tile]);
  }
}

// sum[m][n] += sum over k of a[m][k] * b[k / 4][4 n + k % 4].
void Multiply(int sum, int a, int b, bool a_signed, bool b_signed) {
  Machine& m = g_machine;
  const int depth = m.shapes.rows[b];
  const bool different = sum != a && sum != b && a != b;
  if (!Check(m.configured && different && m.shapes.row_bytes[a] == 4 * depth &&
             m.shapes.rows[a] == m.shapes.rows[sum] && m.shapes.row_bytes[b] == m.shapes.row_bytes[sum])) {
    return;
  }
  const auto value = [](uint8_t byte, bool is_signed) { return is_signed ? static_cast<int8_t>(byte) : int{byte}; };
  for (int row = 0; row < m.shapes.rows[sum]; ++row) {
    for (int n = 0; n < m.shapes.row_bytes[sum] / 4; ++n) {
      int32_t total;
      std::memcpy(&total, m.tile[sum].bytes[row] + 4 * n, sizeof(total));
      for (int k = 0; k < 4 * depth; ++k) {
        total += value(m.tile[a].bytes[row][k], a_signed) * value(m.tile[b].bytes[k / 4][4 * n + k % 4], b_signed);
      }
      std::memcpy(m.tile[sum].bytes[row] + 4 * n, &total, sizeof(total));
    }
  }
}

// One instruction, taken apart. Lengths that the address has not are 0.
struct Instruction {
  enum Prefix { kNone = 0, k66 = 1, kF3 = 2, kF2 = 3 };
  int prefix, opcode, reg, rm, third, length;
  bool memory;
  uint64_t address;  // without the index
  int64_t stride;    // the scaled index
};

// False if it is none that VEX encodes with opcode map 0F38, 128 bits and W = 0.
bool Decode(const uint8_t* code, const greg_t* registers, Instruction* out) {
  constexpr int kOrder[] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                            REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
  if (code[0] != 0xc4 || (code[1] & 0x1f) != 2 || (code[2] & 0x84) != 0) return false;
  const int x = code[1] & 0x40 ? 0 : 8, b = code[1] & 0x20 ? 0 : 8;  // stored inverted
  out->prefix = code[2] & 3;
  out->third = ~(code[2] >> 3) & 15;
  out->opcode = code[3];
  const int mode = code[4] >> 6;
  out->reg = (code[4] >> 3) & 7;
  out->rm = code[4] & 7;
  out->length = 5;
  out->memory = mode != 3;
  out->address = 0;
  out->stride = 0;
  if (!out->memory) return true;
  bool relative = false;  // to the next instruction
  bool wide = mode == 2;  // displacement of 32 bits
  if (out->rm == 4) {
    const uint8_t sib = code[out->length++];
    const int index = ((sib >> 3) & 7) + x, base = (sib & 7) + b;
    if (index != 4) out->stride = static_cast<int64_t>(static_cast<uint64_t>(registers[kOrder[index]]) << (sib >> 6));
    if (mode == 0 && (sib & 7) == 5) {
      wide = true;
    } else {
      out->address = registers[kOrder[base]];
    }
  } else if (mode == 0 && out->rm == 5) {
    relative = wide = true;
  } else {
    out->address = registers[kOrder[out->rm + b]];
  }
  if (wide) {
    int32_t displacement;
    std::memcpy(&displacement, code + out->length, sizeof(displacement));
    out->address += static_cast<int64_t>(displacement);
    out->length += 4;
  } else if (mode == 1) {
    out->address += static_cast<int64_t>(static_cast<int8_t>(code[out->length++]));
  }
  if (relative) out->address += registers[REG_RIP] + out->length;
  return true;
}

// False if it is no tile instruction.
bool Execute(const Instruction& i) {
  uint8_t* const memory = reinterpret_cast<uint8_t*>(i.address);
  switch (i.opcode) {
    case 0x49:
      if (i.prefix == Instruction::kNone && i.memory && i.reg == 0) return Configure(memory + i.stride), true;
      if (i.prefix == Instruction::kNone && !i.memory) return Release(), true;
      if (i.prefix == Instruction::kF2 && !i.memory) {
        if (Check(g_machine.configured)) std::memset(&g_machine.tile[i.reg], 0, sizeof(Machine::Tile));
        return true;
      }
      return false;
    case 0x4b:
      if (!i.memory || i.rm != 4) return false;
      if (i.prefix == Instruction::kF2 || i.prefix == Instruction::k66) return Load(i.reg, memory, i.stride), true;
      if (i.prefix == Instruction::kF3) return Store(i.reg, memory, i.stride), true;
      return false;
    case 0x5e:
      if (i.memory) return false;
      Multiply(i.reg, i.rm, i.third, i.prefix == Instruction::kF2 || i.prefix == Instruction::kF3,
               i.prefix == Instruction::kF2 || i.prefix == Instruction::k66);
      return true;
    default:
      return false;
  }
}

void OnIllegalInstruction(int, siginfo_t*, void* context) {
  greg_t* registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  Instruction instruction;
  if (Decode(reinterpret_cast<const uint8_t*>(registers[REG_RIP]), registers, &instruction) && Execute(instruction)) {
    registers[REG_RIP] += instruction.length;
    ++g_machine.executed;
    return;
  }
  sigaction(SIGILL, &g_before, nullptr);  // the instruction is tried again, for good
}

}  // namespace

TileEmulator::TileEmulator() {
  g_machine = {};
  struct sigaction action {};
  action.sa_sigaction = OnIllegalInstruction;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGILL, &action, &g_before);
}

TileEmulator::~TileEmulator() { sigaction(SIGILL, &g_before, nullptr); }

int TileEmulator::executed() const { return g_machine.executed; }

int TileEmulator::TakeFaults() {
  const int faults = g_machine.faults + (g_machine.configured ? 1 : 0);
  g_machine.faults = 0;
  return faults;
}

}  // namespace tandem::engine::testing
