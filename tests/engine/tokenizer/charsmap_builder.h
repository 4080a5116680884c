// A precompiled charsmap from pairs of text and replacement: the inverse of engine/tokenizer/charsmap.h.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace tandem::engine {

class CharsmapBuilder {
 public:
  explicit CharsmapBuilder(const std::map<std::string, std::string>& pairs) {
    units_.resize(1);
    std::map<std::string, uint32_t> values;
    for (const auto& [key, replacement] : pairs) {
      values[key] = static_cast<uint32_t>(replacements_.size());
      replacements_ += replacement + '\0';
    }
    Place(values, "", 0);
  }

  std::string bytes() const {
    std::string bytes;
    AppendU32(static_cast<uint32_t>(4 * units_.size()), &bytes);
    for (const uint32_t unit : units_) AppendU32(unit, &bytes);
    return bytes + replacements_;
  }
  // As in model files, an array of signed bytes.
  std::vector<int32_t> Array() const {
    const std::string all = bytes();
    return std::vector<int32_t>(all.begin(), all.end());
  }

 private:
  static void AppendU32(uint32_t value, std::string* out) {
    for (int shift = 0; shift < 32; shift += 8) out->push_back(static_cast<char>(value >> shift));
  }

  // Gives the children of the node of `prefix`, which is at `index`, their places.
  void Place(const std::map<std::string, uint32_t>& values, const std::string& prefix, uint32_t index) {
    std::set<uint8_t> labels;  // 0: a key ends here
    for (const auto& [key, value] : values) {
      if (key.compare(0, prefix.size(), prefix) != 0) continue;
      labels.insert(key.size() == prefix.size() ? 0 : static_cast<uint8_t>(key[prefix.size()]));
    }
    if (labels.empty()) return;
    uint32_t base = 1;
    const auto taken = [&] {
      for (const uint8_t label : labels) {
        if (used_.contains(base ^ label)) return true;
      }
      return false;
    };
    while (taken()) ++base;
    for (const uint8_t label : labels) {
      used_.insert(base ^ label);
      if ((base ^ label) >= units_.size()) units_.resize((base ^ label) + 1);
    }
    units_[index] |= (index ^ base) << 10 | (labels.contains(0) ? 1u << 8 : 0);
    for (const uint8_t label : labels) {
      if (label == 0) {
        units_[base] = 1u << 31 | values.at(prefix);
      } else {
        units_[base ^ label] = label;
        Place(values, prefix + static_cast<char>(label), base ^ label);
      }
    }
  }

  std::set<uint32_t> used_ = {0};
  std::vector<uint32_t> units_;
  std::string replacements_;
};

}  // namespace tandem::engine
