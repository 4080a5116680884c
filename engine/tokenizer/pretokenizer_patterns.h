// The regular expressions of the known values of tokenizer.ggml.pre, as the models' own tokenizer files give them.
#pragma once

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace tandem::engine {

struct PretokenizerRule {
  std::vector<std::string> patterns;   // PCRE2 syntax, UTF and UCP; applied one after the other
  bool digits_from_the_right = false;  // what patterns[0] matches is cut into threes from its end: 12|345|678
  bool ignore_merges = false;
  bool default_add_bos = false;
};

// Null if `name` is not known. The result lives forever.
const PretokenizerRule* FindPretokenizerRule(absl::string_view name);
std::vector<absl::string_view> KnownPretokenizers();  // in alphabetical order

}  // namespace tandem::engine
