// Requests to rewrite a source file of ours, and what a model that does it well would answer.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/tokenizer/tokenizer.h"

namespace tandem::bench {

struct RewriteText {
  std::string name;
  std::vector<int32_t> prompt, answer;
  int changed_lines = 0, lines = 0;  // of the file
};

// The texts that rewrites.json describes, in its order: each names a file of the source tree `root`, what is asked for,
// and replacements that make the answer of it, or of another file: pairs, one after the other, each of every
// occurrence. Errors: kNotFound (no such file), kInvalidArgument (not as described; text that is to be replaced and is
// not there).
absl::StatusOr<std::vector<RewriteText>> ReadRewrites(const std::string& root, const engine::Tokenizer& tokenizer);

}  // namespace tandem::bench
