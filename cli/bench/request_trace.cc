#include "cli/bench/request_trace.h"

#include <algorithm>
#include <cmath>

#include <nlohmann/json.hpp>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "cli/bench/length_distribution.h"
#include "engine/base/status_macros.h"

namespace tandem::cli {
namespace {

using Json = nlohmann::json;

constexpr double kMaxSeconds = 1e7;  // some months
// A prompt's text that the coordinator takes, escaped.
constexpr size_t kMaxLineBytes = size_t{32} << 20;

// An object without objects or lists inside, which are dropped as they are met: what is built is never deep.
absl::StatusOr<Json> ParseFlat(absl::string_view line) {
  bool nested = false;
  const auto flat = [&nested](int depth, Json::parse_event_t event, Json&) {
    if (event != Json::parse_event_t::object_start && event != Json::parse_event_t::array_start) return true;
    nested = nested || depth > 0;
    return depth == 0;
  };
  Json json = Json::parse(line.begin(), line.end(), flat, /*allow_exceptions=*/false);
  if (!json.is_object()) return absl::InvalidArgumentError("it is no JSON object in UTF-8");
  if (nested) return absl::InvalidArgumentError("it has a list or an object inside");
  return json;
}

absl::Status ReadTokens(absl::string_view key, const Json& value, uint32_t* tokens) {
  if (!value.is_number_unsigned() || value.get<uint64_t>() < 1 || value.get<uint64_t>() > kMaxTokens) {
    return absl::InvalidArgumentError(absl::StrCat("\"", key, "\" must be a whole number from 1 to ", kMaxTokens));
  }
  *tokens = value.get<uint32_t>();
  return absl::OkStatus();
}

absl::Status ReadEntry(absl::string_view line, TraceEntry* entry) {
  if (line.size() > kMaxLineBytes) {
    return absl::InvalidArgumentError(absl::StrCat("it has ", line.size(), " bytes, at most ", kMaxLineBytes));
  }
  TANDEM_ASSIGN_OR_RETURN(const Json json, ParseFlat(line));
  bool has_time = false;
  for (const auto& [key, value] : json.items()) {
    if (key == "at_s") {
      has_time = value.is_number();
      entry->at_s = has_time ? value.get<double>() : 0;
      if (!has_time || !(entry->at_s >= 0 && entry->at_s <= kMaxSeconds)) {
        return absl::InvalidArgumentError(absl::StrCat("\"at_s\" must be a number from 0 to ", kMaxSeconds));
      }
    } else if (key == "prompt_tokens" || key == "max_tokens") {
      TANDEM_RETURN_IF_ERROR(ReadTokens(key, value, key == "max_tokens" ? &entry->max_tokens : &entry->prompt_tokens));
    } else if (key == "prompt") {
      if (!value.is_string() || value.get_ref<const std::string&>().empty()) {
        return absl::InvalidArgumentError("\"prompt\" must be a text that is not empty");
      }
      entry->prompt = value.get<std::string>();
    } else {
      return absl::InvalidArgumentError(absl::StrCat("unknown key \"", key.substr(0, 64),
                                                     "\"; known are at_s, prompt_tokens, max_tokens and prompt"));
    }
  }
  if (!has_time) return absl::InvalidArgumentError("\"at_s\" is missing");
  if (entry->max_tokens == 0) return absl::InvalidArgumentError("\"max_tokens\" is missing");
  if (entry->prompt_tokens == 0 && entry->prompt.empty()) {
    return absl::InvalidArgumentError("\"prompt_tokens\" or \"prompt\" is missing");
  }
  if (!entry->prompt.empty()) entry->prompt_tokens = 0;
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<TraceEntry>> ParseTrace(absl::string_view text) {
  std::vector<TraceEntry> entries;
  for (size_t number = 1; !text.empty(); ++number) {
    const size_t end = std::min(text.find('\n'), text.size());
    const absl::string_view line = absl::StripAsciiWhitespace(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.empty()) continue;
    TraceEntry entry;
    absl::Status read = ReadEntry(line, &entry);
    if (read.ok() && !entries.empty() && entry.at_s < entries.back().at_s) {
      read = absl::InvalidArgumentError(
          absl::StrCat("\"at_s\" goes back from ", entries.back().at_s, " to ", entry.at_s, ": sort the lines"));
    }
    if (!read.ok()) return absl::InvalidArgumentError(absl::StrCat("line ", number, ": ", read.message()));
    entries.push_back(std::move(entry));
  }
  if (entries.empty()) return absl::InvalidArgumentError("the trace has no lines");
  return entries;
}

}  // namespace tandem::cli
