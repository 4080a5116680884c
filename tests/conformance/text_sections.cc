#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/chat/chat_template.h"
#include "engine/chat/json_value.h"
#include "engine/gguf/gguf_file.h"
#include "engine/tokenizer/tokenizer.h"
#include "tests/conformance/conformance.h"
#include "tests/support/reference.h"

namespace tandem::testing {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

std::string ReadText(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

std::vector<std::string> FilesOf(const std::string& folder, const std::string& suffix) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (name.ends_with(suffix)) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::string StringOf(const engine::GgufFile& file, const std::string& key) {
  const auto value = file.GetString(key);
  return value.ok() ? std::string(*value) : "-";
}

// True if `text` gives the case's ids and, where no special token is involved, the ids give the text.
bool CasePasses(const engine::Tokenizer& tokenizer, const Json& item) {
  const std::string text = item["text"];
  const engine::EncodeOptions options = {item.value("add_special", false), item.value("parse_special", false)};
  const auto expected = item["ids"].get<std::vector<engine::TokenId>>();
  if (tokenizer.Encode(text, options) != expected) return false;
  return options.add_special || options.parse_special || tokenizer.Decode(expected) == text;
}

// True if the template renders the case's text, or raises its error.
bool RenderingPasses(const engine::ChatTemplate& chat, const Json& reference, const Json& input, const Json& expected) {
  Json variables = input;
  for (const char* token : {"bos_token", "eos_token"}) variables[token] = reference[token];
  const auto values = engine::jinja::ValueFromJson(variables.dump());
  if (!values.ok()) return false;
  const auto rendered = chat.Render(*values, absl::CivilSecond(2024, 7, 26, 12));  // the reference's `now`
  if (!expected.contains("error")) return rendered.ok() && *rendered == expected["rendered"].get<std::string>();
  return !rendered.ok() &&
         std::string(rendered.status().message()).find(expected["error"].get<std::string>()) != std::string::npos;
}

}  // namespace

ConformanceSection TokenizerSection() {
  ConformanceSection section;
  section.markdown =
      "## Tokenizers\n\nVocabularies of real models: token ids of every case equal, and text given back.\n\n"
      "| vocabulary | kind | pre-tokeniser | tokens | cases | equal |\n|---|---|---|---|---|---|\n";
  const std::string folder = absl::StrCat(ReferenceFolder(), "/tokenizer/");
  for (const std::string& name : FilesOf(folder, ".gguf")) {
    const std::string stem = name.substr(0, name.size() - 5);
    const auto file = engine::GgufFile::Open(folder + name);
    const auto tokenizer = file.ok() ? engine::Tokenizer::Create(**file) : file.status();
    if (!tokenizer.ok()) {
      section.failures.push_back(absl::StrCat(name, ": ", tokenizer.status().message()));
      continue;
    }
    const Json cases = Json::parse(ReadText(absl::StrCat(folder, stem, ".cases.json")));
    const auto equal =
        std::count_if(cases.begin(), cases.end(), [&](const Json& item) { return CasePasses(**tokenizer, item); });
    if (equal != static_cast<int64_t>(cases.size())) {
      section.failures.push_back(absl::StrFormat("%s: %d of %d cases", stem, equal, cases.size()));
    }
    absl::StrAppendFormat(&section.markdown, "| %s | %s | %s | %d | %d | %d |\n", stem,
                          StringOf(**file, "tokenizer.ggml.model"), StringOf(**file, "tokenizer.ggml.pre"),
                          (*tokenizer)->vocab_size(), cases.size(), equal);
  }
  return section;
}

ConformanceSection ChatTemplateSection() {
  ConformanceSection section;
  section.markdown =
      "## Chat templates\n\nTemplates of real models: every rendering equal byte for byte, every error that a template "
      "raises reported.\n\n| template | cases | equal |\n|---|---|---|\n";
  const std::string folder = absl::StrCat(ReferenceFolder(), "/chat/");
  const Json reference = Json::parse(ReadText(folder + "expected.json"));
  for (const std::string& name : FilesOf(folder + "templates", ".jinja")) {
    const auto chat = engine::ChatTemplate::Parse(ReadText(absl::StrCat(folder, "templates/", name)));
    if (!chat.ok()) {
      section.failures.push_back(absl::StrCat(name, ": ", chat.status().message()));
      continue;
    }
    int equal = 0, total = 0;
    for (const auto& [key, expected] : reference["expected"][name].items()) {
      ++total;
      if (RenderingPasses(**chat, reference, reference["cases"][key], expected)) ++equal;
    }
    if (equal != total || total == 0) section.failures.push_back(absl::StrFormat("%s: %d of %d", name, equal, total));
    absl::StrAppendFormat(&section.markdown, "| %s | %d | %d |\n", name.substr(0, name.size() - 6), total, equal);
  }
  return section;
}

}  // namespace tandem::testing
