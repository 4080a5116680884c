#include "tests/bench/pipeline/rewrite_text.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "engine/base/status_macros.h"

namespace tandem::bench {
namespace {

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::NotFoundError(absl::StrCat("cannot read ", path));
  return std::string(std::istreambuf_iterator<char>(file), {});
}

// Lines of `now` that `before` does not have.
int CountNewLines(const std::string& before, const std::string& now) {
  const std::set<std::string> old = absl::StrSplit(before, '\n');
  int count = 0;
  for (const auto line : absl::StrSplit(now, '\n')) count += old.contains(std::string(line)) ? 0 : 1;
  return count;
}

absl::StatusOr<RewriteText> MakeText(const nlohmann::json& rewrite, const std::string& root,
                                     const engine::Tokenizer& tokenizer) {
  RewriteText text;
  text.name = rewrite.at("name").get<std::string>();
  TANDEM_ASSIGN_OR_RETURN(const std::string before,
                          ReadFile(absl::StrCat(root, "/", rewrite.at("file").get<std::string>())));
  TANDEM_ASSIGN_OR_RETURN(
      std::string now,
      ReadFile(absl::StrCat(root, "/", rewrite.value("answer", rewrite.at("file").get<std::string>()))));
  for (const auto& edit : rewrite.at("edits")) {
    const auto what = edit.at(0).get<std::string>(), by = edit.at(1).get<std::string>();
    if (absl::StrReplaceAll({{what, by}}, &now) > 0) continue;
    return absl::InvalidArgumentError(absl::StrCat(text.name, ": there is no \"", what, "\" to replace"));
  }
  text.changed_lines = CountNewLines(before, now);
  text.lines = static_cast<int>(std::count(now.begin(), now.end(), '\n'));
  text.prompt = tokenizer.Encode(
      absl::StrCat(rewrite.at("instruction").get<std::string>(), ":\n\n```cpp\n", before, "```\n\n"), {});
  text.answer = tokenizer.Encode(absl::StrCat("```cpp\n", now, "```\n"), {});
  return text;
}

}  // namespace

absl::StatusOr<std::vector<RewriteText>> ReadRewrites(const std::string& root, const engine::Tokenizer& tokenizer) {
  TANDEM_ASSIGN_OR_RETURN(const std::string json, ReadFile(absl::StrCat(root, "/tests/bench/pipeline/rewrites.json")));
  std::vector<RewriteText> texts;
  try {
    for (const auto& rewrite : nlohmann::json::parse(json)) {
      TANDEM_ASSIGN_OR_RETURN(texts.emplace_back(), MakeText(rewrite, root, tokenizer));
    }
  } catch (const nlohmann::json::exception& error) {
    return absl::InvalidArgumentError(absl::StrCat("rewrites.json: ", error.what()));
  }
  return texts;
}

}  // namespace tandem::bench
