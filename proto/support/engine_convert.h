// v1.Sampling and v1.Slice to the engine's types, with range checks: the one gate between bytes of a peer or a client
// and the engine.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/quant/tensor_type.h"
#include "engine/sampling/dry.h"
#include "engine/sampling/sampler.h"
#include "engine/stage.h"
#include "tandem/v1/cluster.pb.h"
#include "tandem/v1/generate.pb.h"
#include "tandem/v1/pipeline.pb.h"

namespace tandem::proto_support {

// Errors: kInvalidArgument as ValidateSampling. An unset seed gives 0.
absl::StatusOr<engine::SamplingParams> SamplingFromProto(const v1::Sampling& sampling, int32_t vocab_size);

// Errors: kInvalidArgument as ValidateDry.
absl::StatusOr<engine::DryParams> DryFromProto(const v1::Dry& dry);

// Errors: kInvalidArgument (KV_TYPE_UNSPECIFIED or unknown).
absl::StatusOr<engine::KvType> KvTypeFromProto(v1::KvType type);
v1::KvType KvTypeToProto(engine::KvType type);

// One of engine::ActivationTypes. Errors: kInvalidArgument (ACTIVATION_TYPE_UNSPECIFIED or unknown).
absl::StatusOr<engine::TensorType> ActivationTypeFromProto(v1::ActivationType type);
v1::ActivationType ActivationTypeToProto(engine::TensorType type);

// A frame as the engine sees it. Spans point into `frame` and into `storage`, which must outlive the step.
struct StepStorage {
  std::vector<engine::SamplingParams> sampling;
  std::vector<std::vector<std::pair<int32_t, float>>> dry;
  std::vector<std::vector<uint64_t>> allowed;
  std::vector<engine::AdapterUse> adapters;  // of all slices
  std::vector<float> hidden;                 // activations that did not come as F32
};
// Checks counts and sizes (activations must be tokens * hidden values of their type, or empty on the first stage);
// Stage::Run checks the rest. Errors: kInvalidArgument naming slice, field, value and limit.
absl::StatusOr<engine::Step> StepFromFrame(const v1::StepFrame& frame, const engine::ModelSpec& spec, bool first_stage,
                                           StepStorage* storage);

}  // namespace tandem::proto_support
