// Cuts text into the words inside which byte-level BPE merges: the regular expressions that belong to
// tokenizer.ggml.pre.
#pragma once

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tandem::engine {

// Immutable after Create, hence thread-safe. Linear in the text for every known name.
class Pretokenizer {
 public:
  // Errors: kUnimplemented (unknown name; the message has the nearest known), kInternal (PCRE2 refused a pattern of
  // ours).
  static absl::StatusOr<std::unique_ptr<Pretokenizer>> Create(absl::string_view name);
  ~Pretokenizer();
  Pretokenizer(const Pretokenizer&) = delete;
  Pretokenizer& operator=(const Pretokenizer&) = delete;

  // The words of `text` in order; together they are the text, none is empty. They view `text`. Each run of bytes that
  // is not UTF-8 is a word by itself.
  std::vector<absl::string_view> Split(absl::string_view text) const;

  // A word that is a token by itself is taken whole, whatever the merges say.
  bool ignore_merges() const { return ignore_merges_; }
  // Whether models of this kind start a text with BOS where the file does not say.
  bool default_add_bos() const { return default_add_bos_; }

 private:
  class Pattern;

  Pretokenizer();

  std::vector<std::unique_ptr<Pattern>> patterns_;  // applied in turn, each to the words that the ones before it left
  bool digits_from_the_right_ = false;
  bool ignore_merges_ = false;
  bool default_add_bos_ = false;
};

}  // namespace tandem::engine
