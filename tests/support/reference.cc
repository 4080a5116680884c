#include "tests/support/reference.h"

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <nlohmann/json.hpp>

namespace tandem::testing {
namespace {

std::string ReadAll(const std::string& path) {
  std::ifstream in(ReferenceFolder() + "/" + path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

nlohmann::json ReadJson(const std::string& path) {
  return nlohmann::json::parse(ReadAll(path), nullptr, /*allow_exceptions=*/false);
}

}  // namespace

std::string ReferenceFolder() {
  const char* given = std::getenv("TANDEM_REFERENCE");
  const std::string folder = given != nullptr ? given : TANDEM_SOURCE_DIR "/../shared/reference";
  std::error_code error;
  return std::filesystem::is_directory(folder, error) ? folder : "";
}

std::vector<float> ReadReferenceFloats(const std::string& path) {
  const std::string bytes = ReadAll(path);
  std::vector<float> values(bytes.size() / sizeof(float));
  if (!values.empty()) std::memcpy(values.data(), bytes.data(), values.size() * sizeof(float));
  return values;
}

std::vector<int32_t> ReadReferenceIds(const std::string& path) {
  std::ifstream in(ReferenceFolder() + "/" + path);
  return {std::istream_iterator<int32_t>(in), std::istream_iterator<int32_t>()};
}

double ReadReferenceNumber(const std::string& path, const std::string& key) {
  const nlohmann::json object = ReadJson(path);
  if (!object.is_object() || !object.contains(key)) return std::numeric_limits<double>::quiet_NaN();
  return object[key].get<double>();
}

std::vector<ReferenceStory> ReadReferenceStories(const std::string& path) {
  std::vector<ReferenceStory> stories;
  const nlohmann::json list = ReadJson(path);
  if (!list.is_array()) return stories;
  for (const nlohmann::json& story : list) {
    stories.push_back({story.at("prompt"), story.at("prompt_ids"), story.at("greedy_ids"), story.at("greedy_text")});
  }
  return stories;
}

double RelativeError(std::span<const float> a, std::span<const float> b) {
  if (a.size() != b.size() || b.empty()) return std::numeric_limits<double>::infinity();
  double difference = 0, norm = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference += (double{a[i]} - b[i]) * (double{a[i]} - b[i]);
    norm += double{b[i]} * b[i];
  }
  return std::sqrt(difference / norm);
}

}  // namespace tandem::testing
