#include "worker/shard_loader.h"

#include <algorithm>
#include <filesystem>
#include <limits>
#include <system_error>
#include <utility>

#include <spdlog/spdlog.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/base/status_macros.h"
#include "engine/gguf/gguf_split.h"
#include "engine/model/adapter.h"
#include "engine/model/model_layout.h"
#include "proto/support/engine_convert.h"
#include "worker/remote_model.h"

namespace tandem::worker {
namespace {

namespace fs = std::filesystem;

// Candidates in a stable order: as given, folders by name.
std::vector<std::string> ListFiles(const std::vector<std::string>& paths) {
  std::vector<std::string> files;
  for (const std::string& path : paths) {
    std::error_code error;
    if (!fs::is_directory(path, error)) {
      files.push_back(path);
      continue;
    }
    const size_t first = files.size();
    for (fs::directory_iterator it(path, error), end; !error && it != end; it.increment(error)) {
      const std::string file = it->path().string();
      // The first part of a model brings the others with it.
      const auto split = engine::ParseSplitName(file);
      if (it->path().extension() == ".gguf" && (!split.has_value() || split->part == 1)) files.push_back(file);
    }
    if (error) spdlog::warn("{}: {}", path, error.message());
    std::sort(files.begin() + first, files.end());
  }
  return files;
}

absl::StatusOr<engine::StageOptions> StageOptionsFrom(const ShardLoaderOptions& options, const v1::Place& place) {
  const auto in_range = [](const char* field, uint32_t value) {
    constexpr uint32_t kLimit = std::numeric_limits<int32_t>::max();
    if (value <= kLimit) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat(field, " is ", value, ", limit ", kLimit));
  };
  TANDEM_RETURN_IF_ERROR(in_range("first_layer", place.first_layer()));
  TANDEM_RETURN_IF_ERROR(in_range("end_layer", place.end_layer()));
  TANDEM_RETURN_IF_ERROR(in_range("kv.page_tokens", place.kv().page_tokens()));
  TANDEM_RETURN_IF_ERROR(in_range("kv.num_pages", place.kv().num_pages()));
  TANDEM_RETURN_IF_ERROR(in_range("max_step_tokens", place.max_step_tokens()));
  engine::StageOptions stage;
  stage.first_layer = static_cast<int32_t>(place.first_layer());
  stage.end_layer = static_cast<int32_t>(place.end_layer());
  TANDEM_ASSIGN_OR_RETURN(stage.kv_type, proto_support::KvTypeFromProto(place.kv().type()));
  stage.page_tokens = static_cast<int32_t>(place.kv().page_tokens());
  stage.num_pages = static_cast<int32_t>(place.kv().num_pages());
  stage.max_step_tokens = static_cast<int32_t>(place.max_step_tokens());
  stage.isa = options.isa;
  stage.threads = options.threads;
  stage.pin_threads = options.pin_threads;
  return stage;
}

absl::Status CheckFits(const engine::StageMemory& wanted, uint64_t allowed) {
  if (wanted.total() <= allowed) return absl::OkStatus();
  constexpr double kMb = 1e6;
  return absl::ResourceExhaustedError(absl::StrFormat(
      "the stage wants %.1f MB (weights %.1f, KV pages %.1f, scratch %.1f), this worker may use %.1f MB; add workers, "
      "or "
      "use a shorter context",
      wanted.total() / kMb, wanted.weights / kMb, wanted.kv / kMb, wanted.scratch / kMb, allowed / kMb));
}

uint64_t TotalBytes(const engine::GgufFile& file, const std::vector<std::string>& tensors) {
  uint64_t total = 0;
  for (const std::string& name : tensors) total += file.FindTensor(name)->bytes;
  return total;
}

// More than this many adapters in a placement are refused.
constexpr int kMaxAdapters = 256;

absl::Status CheckAdapterCount(const v1::Place& place) {
  if (place.adapters_size() <= kMaxAdapters) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("the placement has ", place.adapters_size(), " adapters, limit ", kMaxAdapters));
}

// A file that a stage is loaded from: on this machine's disk, or the coordinator's.
struct StageFile {
  std::unique_ptr<engine::GgufFile> file;
  std::string fingerprint;
  bool local = false;
};

// Borrows its arguments.
class FileOpener {
 public:
  FileOpener(const std::vector<std::string>& paths, v1::Cluster::StubInterface& coordinator, LoadCancel& cancel)
      : paths_(paths), coordinator_(coordinator), cancel_(cancel) {}

  absl::StatusOr<StageFile> Open(const v1::ModelRef& ref) {
    StageFile file;
    file.file = FindLocalModel(paths_, ref);
    file.fingerprint = ref.fingerprint();
    file.local = file.file != nullptr;
    if (!file.local) {
      TANDEM_ASSIGN_OR_RETURN(file.file, FetchHeader(coordinator_, ref, cancel_));
    }
    return file;
  }

  // The tensors `names`, which are asked for in that order. `on_bytes` is called for those that come from the
  // coordinator; it may be null.
  std::unique_ptr<engine::TensorSource> Source(const StageFile& file, std::vector<std::string> names,
                                               RemoteTensorSource::OnBytes on_bytes) {
    if (file.local) return std::make_unique<engine::FileTensorSource>(*file.file);
    return std::make_unique<RemoteTensorSource>(coordinator_, file.fingerprint, std::move(names), cancel_,
                                                std::move(on_bytes));
  }

 private:
  const std::vector<std::string>& paths_;
  v1::Cluster::StubInterface& coordinator_;
  LoadCancel& cancel_;
};

}  // namespace

std::unique_ptr<engine::GgufFile> FindLocalModel(const std::vector<std::string>& paths, const v1::ModelRef& model) {
  const std::vector<std::string> files = ListFiles(paths);
  for (const std::string& path : files) {
    absl::StatusOr<std::unique_ptr<engine::GgufFile>> file = engine::GgufFile::Open(path);
    if (!file.ok()) {
      spdlog::warn("passed over: {}", std::string(file.status().message()));
      continue;
    }
    if ((*file)->file_bytes() != model.file_bytes()) continue;
    const absl::StatusOr<std::string> fingerprint = (*file)->Fingerprint();
    if (!fingerprint.ok()) {
      spdlog::warn("passed over: {}: {}", path, std::string(fingerprint.status().message()));
    } else if (*fingerprint == model.fingerprint()) {
      return *std::move(file);
    }
  }
  if (!files.empty()) {
    spdlog::warn(
        "none of the {} file(s) given with --model is {} (fingerprint {}): its layers come from the coordinator",
        files.size(), model.name(), model.fingerprint());
  }
  return nullptr;
}

absl::StatusOr<LoadedShard> LoadShard(const ShardLoaderOptions& options, const v1::Place& place,
                                      v1::Cluster::StubInterface& coordinator, const engine::LoadProgress& progress,
                                      LoadCancel& cancel) {
  TANDEM_ASSIGN_OR_RETURN(const engine::StageOptions stage_options, StageOptionsFrom(options, place));
  TANDEM_RETURN_IF_ERROR(CheckAdapterCount(place));
  LoadedShard shard;
  FileOpener opener(options.model_paths, coordinator, cancel);
  TANDEM_ASSIGN_OR_RETURN(const StageFile model, opener.Open(place.model()));
  shard.from_local_file = model.local;
  TANDEM_ASSIGN_OR_RETURN(shard.spec, engine::ReadModelSpec(*model.file));
  std::vector<StageFile> adapters;
  std::vector<engine::AdapterSource> sources;
  for (const v1::ModelRef& ref : place.adapters()) {
    TANDEM_ASSIGN_OR_RETURN(StageFile adapter, opener.Open(ref));
    sources.push_back({adapter.file.get(), nullptr});
    adapters.push_back(std::move(adapter));
  }
  TANDEM_ASSIGN_OR_RETURN(const engine::StageMemory wanted,
                          engine::EstimateStageMemory(shard.spec, *model.file, stage_options, sources));
  TANDEM_RETURN_IF_ERROR(CheckFits(wanted, options.memory_bytes));

  const int32_t first = stage_options.first_layer, end = stage_options.end_layer;
  std::vector<std::unique_ptr<engine::TensorSource>> owned;
  for (size_t i = 0; i < adapters.size(); ++i) {
    TANDEM_ASSIGN_OR_RETURN(const engine::AdapterSpec spec,
                            engine::ReadAdapter(*adapters[i].file, shard.spec, *model.file));
    owned.push_back(opener.Source(adapters[i], engine::AdapterTensorNames(spec, first, end), /*on_bytes=*/nullptr));
    sources[i].source = owned.back().get();
  }
  std::vector<std::string> names = engine::StageTensorNames(shard.spec, *model.file, first, end);
  uint64_t done = 0;
  const uint64_t total = TotalBytes(*model.file, names);
  // Counted piece by piece: a tensor may take a minute on its way.
  const auto on_bytes = [&](uint64_t bytes) {
    done += bytes;
    if (progress) progress(done, total);
  };
  const std::unique_ptr<engine::TensorSource> source = opener.Source(model, std::move(names), on_bytes);
  TANDEM_ASSIGN_OR_RETURN(shard.stage,
                          engine::Stage::Load(
                              shard.spec, *model.file, *source, stage_options, model.local ? progress : nullptr,
                              [&cancel] { return cancel.cancelled(); }, sources));
  return shard;
}

}  // namespace tandem::worker
