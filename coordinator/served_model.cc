#include "coordinator/served_model.h"

#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "engine/base/status_macros.h"
#include "engine/gguf/gguf_split.h"
#include "engine/model/adapter.h"

namespace tandem::coordinator {
namespace {

absl::Status InFile(const std::string& path, const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat(path, ": ", status.message()));
}

std::string NameOf(const std::string& path) {
  if (const auto split = engine::ParseSplitName(path); split.has_value()) return NameOf(split->prefix);
  const size_t slash = path.find_last_of('/');
  const absl::string_view file = absl::string_view(path).substr(slash == std::string::npos ? 0 : slash + 1);
  return std::string(absl::StripSuffix(file, ".gguf"));
}

}  // namespace

absl::StatusOr<std::vector<AdapterPath>> ParseAdapterPaths(const std::vector<std::string>& entries) {
  std::vector<AdapterPath> paths;
  absl::flat_hash_set<std::string> names;
  for (const std::string& entry : entries) {
    const size_t equals = entry.find('=');
    if (equals == std::string::npos || equals == 0 || equals + 1 == entry.size()) {
      return absl::InvalidArgumentError(absl::StrCat("adapter \"", entry, "\" is not of the form NAME=FILE"));
    }
    AdapterPath path{.name = entry.substr(0, equals), .path = entry.substr(equals + 1)};
    if (!names.insert(path.name).second) {
      return absl::InvalidArgumentError(absl::StrCat("two adapters are named \"", path.name, "\""));
    }
    paths.push_back(std::move(path));
  }
  return paths;
}

std::vector<engine::AdapterSource> ServedModel::adapter_files() const {
  std::vector<engine::AdapterSource> files;
  for (const ServedAdapter& adapter : adapters_) files.push_back({adapter.file.get(), nullptr});
  return files;
}

const engine::GgufFile* ServedModel::FindFile(const std::string& fingerprint) const {
  if (fingerprint == fingerprint_) return file_.get();
  for (const ServedAdapter& adapter : adapters_) {
    if (fingerprint == adapter.fingerprint) return adapter.file.get();
  }
  return nullptr;
}

absl::Status ServedModel::OpenAdapters(const std::vector<AdapterPath>& paths) {
  for (const AdapterPath& path : paths) {
    ServedAdapter adapter;
    adapter.name = path.name;
    TANDEM_ASSIGN_OR_RETURN(adapter.file, engine::GgufFile::Open(path.path));
    if (auto read = engine::ReadAdapter(*adapter.file, spec_, *file_); !read.ok()) {
      return InFile(path.path, read.status());
    }
    auto fingerprint = adapter.file->Fingerprint();
    if (!fingerprint.ok()) return InFile(path.path, fingerprint.status());
    adapter.fingerprint = *std::move(fingerprint);
    adapters_.push_back(std::move(adapter));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<ServedModel>> ServedModel::Open(const std::string& path,
                                                               const std::vector<AdapterPath>& adapters) {
  auto model = std::unique_ptr<ServedModel>(new ServedModel);
  model->name_ = NameOf(path);
  TANDEM_ASSIGN_OR_RETURN(model->file_, engine::GgufFile::Open(path));
  auto spec = engine::ReadModelSpec(*model->file_);
  if (!spec.ok()) return InFile(path, spec.status());
  model->spec_ = *std::move(spec);
  auto tokenizer = engine::Tokenizer::Create(*model->file_);
  if (!tokenizer.ok()) return InFile(path, tokenizer.status());
  model->tokenizer_ = *std::move(tokenizer);
  if (model->tokenizer_->vocab_size() != model->spec_.vocab) {
    return InFile(path, absl::InvalidArgumentError(absl::StrCat("the tokenizer has ", model->tokenizer_->vocab_size(),
                                                                " tokens, the embedding ", model->spec_.vocab)));
  }
  auto fingerprint = model->file_->Fingerprint();
  if (!fingerprint.ok()) return InFile(path, fingerprint.status());
  model->grammars_ = std::make_unique<GrammarCache>(*model->tokenizer_);
  model->fingerprint_ = *std::move(fingerprint);
  TANDEM_RETURN_IF_ERROR(model->OpenAdapters(adapters));

  auto source = model->file_->GetString("tokenizer.chat_template");
  if (!source.ok()) {
    model->chat_status_ = absl::InvalidArgumentError(
        absl::StrCat("the model \"", model->name_, "\" has no chat template: send a prompt instead of a conversation"));
    return model;
  }
  auto chat = engine::ChatTemplate::Parse(*source);
  if (chat.ok()) {
    model->chat_template_ = *std::move(chat);
  } else {
    model->chat_status_ = absl::Status(
        chat.status().code(), absl::StrCat("the chat template of \"", model->name_, "\": ", chat.status().message()));
  }
  return model;
}

}  // namespace tandem::coordinator
