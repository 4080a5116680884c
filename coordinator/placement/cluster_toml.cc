#include "coordinator/placement/cluster_toml.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <string>
#include <string_view>

// Errors as values, not exceptions.
#define TOML_EXCEPTIONS 0
#define TOML_HEADER_ONLY 1
#include <toml++/toml.h>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"

namespace tandem::coordinator {
namespace {

absl::Status ErrorAt(const toml::source_region& where, const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat("line ", where.begin.line, ": ", what));
}

absl::Status CheckKeys(const toml::table& table, const std::set<std::string>& known) {
  for (const auto& [key, value] : table) {
    const std::string name(key.str());
    if (known.count(name) == 0) return ErrorAt(value.source(), absl::StrCat("unknown key \"", name, "\""));
  }
  return absl::OkStatus();
}

absl::StatusOr<double> PositiveNumber(const toml::table& table, const std::string& key) {
  const toml::node* node = table.get(key);
  if (node == nullptr) return ErrorAt(table.source(), absl::StrCat("key \"", key, "\" is missing"));
  const std::optional<double> value = node->value<double>();
  if (!value || !std::isfinite(*value) || *value <= 0) {
    return ErrorAt(node->source(), absl::StrCat("\"", key, "\" must be a number above 0"));
  }
  return *value;
}

absl::StatusOr<PlanDevice> ParseWorker(const toml::table& table) {
  TANDEM_RETURN_IF_ERROR(CheckKeys(table, {"name", "memory_gib", "bandwidth_gbs", "int8_tops", "count"}));
  PlanDevice device;
  device.name = table["name"].value_or(std::string());
  if (device.name.empty()) return ErrorAt(table.source(), "a worker needs a \"name\"");
  TANDEM_ASSIGN_OR_RETURN(const double memory_gib, PositiveNumber(table, "memory_gib"));
  TANDEM_ASSIGN_OR_RETURN(const double bandwidth_gbs, PositiveNumber(table, "bandwidth_gbs"));
  TANDEM_ASSIGN_OR_RETURN(const double int8_tops, PositiveNumber(table, "int8_tops"));
  if (memory_gib > 1e9) return ErrorAt(table.source(), "\"memory_gib\" is beyond any machine");
  device.memory_bytes = static_cast<uint64_t>(memory_gib * (uint64_t{1} << 30));
  device.bandwidth = bandwidth_gbs * 1e9;
  device.int8_macs = int8_tops * 1e12 / 2;
  return device;
}

// How many workers a table stands for; 0: one, with the name as it is.
absl::StatusOr<int64_t> ParseCount(const toml::table& table) {
  const toml::node* node = table.get("count");
  if (node == nullptr) return 0;
  const std::optional<int64_t> count = node->value_exact<int64_t>();
  if (!count || *count < 1 || *count > kMaxDescribedWorkers) {
    return ErrorAt(node->source(), absl::StrCat("\"count\" must be a whole number from 1 to ", kMaxDescribedWorkers));
  }
  return *count;
}

absl::StatusOr<LinkCost> ParseLink(const toml::table& table) {
  TANDEM_RETURN_IF_ERROR(CheckKeys(table, {"latency_ms", "bandwidth_mbps"}));
  LinkCost link;
  if (table.contains("latency_ms")) {
    TANDEM_ASSIGN_OR_RETURN(const double latency_ms, PositiveNumber(table, "latency_ms"));
    link.latency_s = latency_ms * 1e-3;
  }
  if (table.contains("bandwidth_mbps")) {
    TANDEM_ASSIGN_OR_RETURN(const double bandwidth_mbps, PositiveNumber(table, "bandwidth_mbps"));
    link.bytes_per_s = bandwidth_mbps * 1e6 / 8;
  }
  return link;
}

}  // namespace

absl::StatusOr<ClusterDescription> ParseClusterToml(absl::string_view text) {
  const toml::parse_result parsed = toml::parse(std::string_view(text.data(), text.size()));
  if (!parsed) return ErrorAt(parsed.error().source(), std::string(parsed.error().description()));
  const toml::table& root = parsed.table();
  TANDEM_RETURN_IF_ERROR(CheckKeys(root, {"worker", "link"}));
  ClusterDescription cluster;
  const toml::array* workers = root["worker"].as_array();
  if (workers == nullptr || workers->empty()) {
    return absl::InvalidArgumentError("no workers: describe each in a table [[worker]]");
  }
  std::set<std::string> names;
  for (const toml::node& node : *workers) {
    if (!node.is_table()) return ErrorAt(node.source(), "\"worker\" must be tables [[worker]]");
    TANDEM_ASSIGN_OR_RETURN(PlanDevice device, ParseWorker(*node.as_table()));
    TANDEM_ASSIGN_OR_RETURN(const int64_t count, ParseCount(*node.as_table()));
    const std::string name = device.name;
    for (int64_t i = 0; i < std::max<int64_t>(count, 1); ++i) {
      if (count > 0) device.name = absl::StrCat(name, "-", i + 1);
      if (!names.insert(device.name).second) {
        return ErrorAt(node.source(), absl::StrCat("the name \"", device.name, "\" is taken"));
      }
      cluster.devices.push_back(device);
    }
    if (static_cast<int64_t>(names.size()) > kMaxDescribedWorkers) {
      return ErrorAt(node.source(), absl::StrCat("more than ", kMaxDescribedWorkers, " workers"));
    }
  }
  if (const toml::node* link = root.get("link"); link != nullptr) {
    if (!link->is_table()) return ErrorAt(link->source(), "\"link\" must be a table [link]");
    TANDEM_ASSIGN_OR_RETURN(cluster.link, ParseLink(*link->as_table()));
  }
  return cluster;
}

}  // namespace tandem::coordinator
