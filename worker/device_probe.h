// What this machine can do, measured: the figures from which the coordinator decides who holds which layers.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "engine/cpu/cpu_features.h"
#include "engine/cpu/thread_pool.h"
#include "tandem/v1/cluster.pb.h"

namespace tandem::worker {

struct ProbeOptions {
  int threads = 0;            // 0: one a physical core
  bool pin_threads = true;    // as the stage will have it
  engine::Isa isa;            // the kernel set that the stage will use
  uint64_t memory_bytes = 0;  // limit; 0: what the machine has
};

// Bytes a second that all threads of `pool` together read from `buffer_bytes`, which are allocated here; takes about
// 0.3 s. Errors: kResourceExhausted.
absl::StatusOr<double> MeasureReadBandwidth(engine::ThreadPool& pool, uint64_t buffer_bytes);
// int8 multiply-adds a second of the Q8_0 matmul on 64 rows of activations, all threads; takes about 0.2 s.
absl::StatusOr<double> MeasureInt8Macs(engine::ThreadPool& pool, engine::Isa isa);

// All of the above in the form in which a worker introduces itself. Uses all threads for about a second. Errors:
// kResourceExhausted (not even the memory to measure with).
absl::StatusOr<v1::Device> ProbeDevice(const ProbeOptions& options);

}  // namespace tandem::worker
