// The model that a coordinator serves: its file and what the coordinator itself needs of it. No weights are loaded
// here.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coordinator/grammar_cache.h"
#include "engine/chat/chat_template.h"
#include "engine/gguf/gguf_file.h"
#include "engine/model/model_spec.h"
#include "engine/stage.h"
#include "engine/tokenizer/tokenizer.h"

namespace tandem::coordinator {

// A low-rank adapter of the served model.
struct ServedAdapter {
  std::string name;  // by which requests ask for it
  std::unique_ptr<engine::GgufFile> file;
  std::string fingerprint;
};

// Adapters to load, in the order in which steps number them.
struct AdapterPath {
  std::string name, path;
};
// "NAME=FILE" each. Errors: kInvalidArgument (another form, a name twice; names the entry).
absl::StatusOr<std::vector<AdapterPath>> ParseAdapterPaths(const std::vector<std::string>& entries);

// Immutable but for the cache of grammars, which has a lock; hence thread-safe.
class ServedModel {
 public:
  // Errors: those of GgufFile::Open, ReadModelSpec and Tokenizer::Create, each with `path` in front. A chat template
  // that cannot be parsed is no error here: only chat requests fail (chat_status). Those of GgufFile::Open and
  // ReadAdapter for an adapter, with its path in front.
  static absl::StatusOr<std::unique_ptr<ServedModel>> Open(const std::string& path,
                                                           const std::vector<AdapterPath>& adapters = {});

  const std::string& name() const { return name_; }  // the file's name without folder, part and ".gguf"
  const std::string& fingerprint() const { return fingerprint_; }
  const engine::GgufFile& file() const { return *file_; }
  const engine::ModelSpec& spec() const { return spec_; }
  const engine::Tokenizer& tokenizer() const { return *tokenizer_; }
  // Null if the file has none, or one that does not parse; chat_status() tells which.
  const engine::ChatTemplate* chat_template() const { return chat_template_.get(); }
  const absl::Status& chat_status() const { return chat_status_; }
  // Of this model's vocabulary; thread-safe like the rest.
  GrammarCache& grammars() const { return *grammars_; }
  std::span<const ServedAdapter> adapters() const { return adapters_; }
  // For memory estimates: the adapters' files without sources.
  std::vector<engine::AdapterSource> adapter_files() const;
  // The served file with this fingerprint, the model's or an adapter's; null if there is none.
  const engine::GgufFile* FindFile(const std::string& fingerprint) const;

 private:
  ServedModel() = default;
  absl::Status OpenAdapters(const std::vector<AdapterPath>& paths);

  std::string name_;
  std::string fingerprint_;
  std::unique_ptr<engine::GgufFile> file_;
  engine::ModelSpec spec_;
  std::unique_ptr<engine::Tokenizer> tokenizer_;
  std::unique_ptr<engine::ChatTemplate> chat_template_;
  absl::Status chat_status_;
  std::unique_ptr<GrammarCache> grammars_;
  std::vector<ServedAdapter> adapters_;
};

}  // namespace tandem::coordinator
