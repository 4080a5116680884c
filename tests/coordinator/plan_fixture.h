// Devices and a model that placement is tested with.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "coordinator/placement/cost_model.h"

namespace tandem::coordinator {

inline constexpr uint64_t kMiB = uint64_t{1} << 20;

inline PlanDevice Device(const std::string& name, double speed, uint64_t memory_mib) {
  PlanDevice device;
  device.name = name;
  device.memory_bytes = memory_mib * kMiB;
  device.bandwidth = speed * 10e9;
  device.int8_macs = speed * 100e9;
  return device;
}

// `layers` equal layers of 100 MiB: 10.5 ms a token at speed 1, so that hops (0.15 ms) hardly count.
inline PlanInput Input(int32_t layers, std::vector<PlanDevice> devices) {
  PlanInput input;
  input.cost.layers.assign(layers, {100 * kMiB, 100'000'000});
  input.cost.embedding = {50 * kMiB, 0};
  input.cost.head = {50 * kMiB, 50'000'000};
  input.hidden = 4096;
  input.kv_bytes_per_token_layer = 4096;
  input.scratch = {20 * kMiB, 10 * kMiB, 10 * kMiB, 20 * kMiB};
  input.devices = std::move(devices);
  input.context = 1024;
  input.max_sequences = 4;
  return input;
}

}  // namespace tandem::coordinator
