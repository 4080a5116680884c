#include "engine/model/spec_reader.h"

#include "absl/strings/str_format.h"
#include "engine/base/status_macros.h"

namespace tandem::engine {

absl::Status SpecReader::Int(absl::string_view name, int64_t min, int64_t max, std::optional<int64_t> fallback,
                             int32_t* out) const {
  const std::string key = Key(name);
  if (!file_.Has(key) && fallback.has_value()) {
    *out = static_cast<int32_t>(*fallback);
    return absl::OkStatus();
  }
  TANDEM_RETURN_IF_ERROR(CheckPresent(key));
  TANDEM_ASSIGN_OR_RETURN(const int64_t value, file_.GetInt(key));
  TANDEM_RETURN_IF_ERROR(CheckRange(key, value, min, max));
  *out = static_cast<int32_t>(value);
  return absl::OkStatus();
}

absl::Status SpecReader::Ints(absl::string_view name, int64_t min, int64_t max, std::optional<int64_t> fallback,
                              int32_t layers, std::vector<int32_t>* out) const {
  const std::string key = Key(name);
  const GgufValue* value = file_.Find(key);
  if (value == nullptr || !std::holds_alternative<GgufArray>(*value)) {
    int32_t one = 0;
    TANDEM_RETURN_IF_ERROR(Int(name, min, max, fallback, &one));
    out->assign(layers, one);
    return absl::OkStatus();
  }
  TANDEM_ASSIGN_OR_RETURN(const std::vector<int64_t> values, file_.GetInts(key));
  if (values.size() < static_cast<size_t>(layers)) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s has %d elements, expected one for each of %d layers", key, values.size(), layers));
  }
  out->clear();
  for (int32_t layer = 0; layer < layers; ++layer) {
    TANDEM_RETURN_IF_ERROR(CheckRange(absl::StrFormat("%s[%d]", key, layer), values[layer], min, max));
    out->push_back(static_cast<int32_t>(values[layer]));
  }
  return absl::OkStatus();
}

absl::Status SpecReader::Float(absl::string_view name, double min, double max, std::optional<double> fallback,
                               float* out) const {
  const std::string key = Key(name);
  if (!file_.Has(key) && fallback.has_value()) {
    *out = static_cast<float>(*fallback);
    return absl::OkStatus();
  }
  TANDEM_RETURN_IF_ERROR(CheckPresent(key));
  TANDEM_ASSIGN_OR_RETURN(const double value, file_.GetFloat(key));
  if (!(value >= min && value <= max)) {
    return absl::InvalidArgumentError(absl::StrFormat("%s is %g, expected %g to %g", key, value, min, max));
  }
  *out = static_cast<float>(value);
  return absl::OkStatus();
}

absl::Status SpecReader::Bool(absl::string_view name, bool fallback, bool* out) const {
  *out = fallback;
  if (!Has(name)) return absl::OkStatus();
  TANDEM_ASSIGN_OR_RETURN(*out, file_.GetBool(Key(name)));
  return absl::OkStatus();
}

absl::Status SpecReader::CheckPresent(const std::string& key) const {
  if (file_.Has(key)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrFormat("%s is missing: the file does not describe a whole model", key));
}

absl::Status SpecReader::CheckRange(const std::string& key, int64_t value, int64_t min, int64_t max) const {
  if (value >= min && value <= max) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrFormat("%s is %d, expected %d to %d", key, value, min, max));
}

}  // namespace tandem::engine
