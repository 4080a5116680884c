// Executes the tile instructions of AMX on processors that have none, so that the kernels of engine/cpu/kernels/amx are
// tested everywhere as they were compiled: an instruction that the processor does not know raises SIGILL, whose handler
// reads it, does what it says, and goes on behind it. The rest of those kernels is AVX-512.
#pragma once

namespace tandem::engine::testing {

// While one lives, tile instructions of this process are emulated. One set of tiles for all threads: one at a time may
// use them. An illegal instruction of another kind ends the process, as it would without.
class TileEmulator {
 public:
  TileEmulator();
  ~TileEmulator();
  TileEmulator(const TileEmulator&) = delete;
  TileEmulator& operator=(const TileEmulator&) = delete;

  // Instructions executed so far.
  int executed() const;
  // What a processor would have refused since the last call; a configuration that is still held counts.
  int TakeFaults();
};

}  // namespace tandem::engine::testing
