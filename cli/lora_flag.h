// `--lora NAME[=SCALE]`: which adapters a request goes through.
#pragma once

#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "absl/status/status.h"
#include "tandem/v1/generate.pb.h"

namespace tandem::cli {

void AddLoraFlag(CLI::App& command, std::vector<std::string>* entries);
// Errors: kInvalidArgument (a scale that is no number; names the entry).
absl::Status ApplyLoraFlag(const std::vector<std::string>& entries, google::protobuf::RepeatedPtrField<v1::Lora>* lora);

}  // namespace tandem::cli
