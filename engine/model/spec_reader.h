// Reads hyperparameters of one architecture from a GGUF header. Every error names the key, what was found and what was
// expected.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "engine/gguf/gguf_file.h"
#include "engine/model/model_spec.h"

namespace tandem::engine {

// Borrows the file. Thread-safe.
class SpecReader {
 public:
  SpecReader(const GgufFile& file, absl::string_view architecture) : file_(file), prefix_(architecture) {}

  const GgufFile& file() const { return file_; }
  std::string Key(absl::string_view name) const { return absl::StrCat(prefix_, ".", name); }
  bool Has(absl::string_view name) const { return file_.Has(Key(name)); }

  // The integer at `name`, within [min, max]. Where the file has none: `fallback`, or an error without one.
  absl::Status Int(absl::string_view name, int64_t min, int64_t max, std::optional<int64_t> fallback,
                   int32_t* out) const;
  // Likewise for one integer a layer: the file has an array of `layers` of them, or one for all.
  absl::Status Ints(absl::string_view name, int64_t min, int64_t max, std::optional<int64_t> fallback, int32_t layers,
                    std::vector<int32_t>* out) const;
  // Likewise for a finite number within [min, max].
  absl::Status Float(absl::string_view name, double min, double max, std::optional<double> fallback, float* out) const;
  absl::Status Bool(absl::string_view name, bool fallback, bool* out) const;

 private:
  absl::Status CheckPresent(const std::string& key) const;
  absl::Status CheckRange(const std::string& key, int64_t value, int64_t min, int64_t max) const;

  const GgufFile& file_;
  const std::string prefix_;
};

// Fills the parts of `spec` that have to do with rotary embedding; the lengths of heads are known.
absl::Status ReadRope(const SpecReader& reader, int32_t context, ModelSpec* spec);

}  // namespace tandem::engine
