#include "cli/lora_flag.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace tandem::cli {

void AddLoraFlag(CLI::App& command, std::vector<std::string>* entries) {
  command.add_option("--lora", *entries, "Go through the adapter NAME, as NAME or NAME=SCALE; may be repeated")
      ->allow_extra_args(false);
}

absl::Status ApplyLoraFlag(const std::vector<std::string>& entries,
                           google::protobuf::RepeatedPtrField<v1::Lora>* lora) {
  for (const std::string& entry : entries) {
    const size_t equals = entry.find('=');
    v1::Lora& to = *lora->Add();
    to.set_name(entry.substr(0, equals));
    if (equals == std::string::npos) continue;
    float scale = 0;
    if (!absl::SimpleAtof(entry.substr(equals + 1), &scale)) {
      return absl::InvalidArgumentError(
          absl::StrCat("--lora ", entry, ": expected NAME or NAME=SCALE with a number as the scale"));
    }
    to.set_scale(scale);
  }
  return absl::OkStatus();
}

}  // namespace tandem::cli
