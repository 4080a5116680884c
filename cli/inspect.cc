// `tandem inspect FILE`: what is in a GGUF file.
#include <cstdio>
#include <map>
#include <memory>
#include <string>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "cli/cluster_text.h"
#include "cli/command.h"
#include "engine/base/status_macros.h"
#include "engine/gguf/gguf_file.h"
#include "engine/model/model_spec.h"

namespace tandem::cli {
namespace {

struct Flags {
  std::string path;
  bool tensors = false;
};

std::string TypeName(engine::TensorType type) {
  const engine::BlockFormat* format = engine::FindBlockFormat(type);
  return format == nullptr ? absl::StrFormat("type %d", static_cast<uint32_t>(type)) : std::string(format->name);
}

void PrintSizes(const engine::GgufFile& file) {
  struct Sum {
    uint64_t count = 0, bytes = 0, elements = 0;
  };
  std::map<std::string, Sum> by_type;
  for (const engine::GgufTensor& tensor : file.tensors()) {
    Sum& sum = by_type[TypeName(tensor.type)];
    ++sum.count;
    sum.bytes += tensor.bytes;
    sum.elements += tensor.cols() * tensor.rows();
  }
  for (const auto& [name, sum] : by_type) {
    std::printf("  %-8s %6llu tensors %14llu weights %12s\n", name.c_str(), static_cast<unsigned long long>(sum.count),
                static_cast<unsigned long long>(sum.elements), FormatBytes(sum.bytes).c_str());
  }
}

absl::Status Run(const Flags& flags) {
  TANDEM_ASSIGN_OR_RETURN(const std::unique_ptr<engine::GgufFile> file, engine::GgufFile::Open(flags.path));
  TANDEM_ASSIGN_OR_RETURN(const std::string fingerprint, file->Fingerprint());
  std::printf("%s: GGUF version %u, %s, alignment %u, fingerprint %s\n\nmetadata\n", flags.path.c_str(),
              file->version(), FormatBytes(file->file_bytes()).c_str(), file->alignment(), fingerprint.c_str());
  for (const auto& [key, value] : file->metadata()) {
    std::printf("  %-44s %s\n", std::string(key).c_str(), engine::FormatValue(value).c_str());
  }
  std::printf("\ntensors: %zu\n", file->tensors().size());
  PrintSizes(*file);
  if (flags.tensors) {
    for (const engine::GgufTensor& tensor : file->tensors()) {
      std::printf("  %-40s %-8s %-20s %12s\n", tensor.name.c_str(), TypeName(tensor.type).c_str(),
                  absl::StrJoin(tensor.dims, " x ").c_str(), FormatBytes(tensor.bytes).c_str());
    }
  }
  const absl::StatusOr<engine::ModelSpec> spec = engine::ReadModelSpec(*file);
  if (!spec.ok()) {
    std::printf("\nTandem cannot run this file: %s\n", std::string(spec.status().message()).c_str());
    return absl::OkStatus();
  }
  const uint64_t kv_elements = engine::ComputeModelCost(*spec, *file).kv_elements_per_token_layer * spec->num_layers;
  std::printf(
      "\n%s: %d layers, hidden %d, FFN %d, %d heads (%d KV) of %d, vocabulary %d, context %d\nKV cache per token: %s "
      "in F16, %s in F32\n",
      spec->architecture.c_str(), spec->num_layers, spec->hidden, spec->ffn, spec->heads, spec->kv_heads,
      spec->head_dim, spec->vocab, spec->context, FormatBytes(kv_elements * 2).c_str(),
      FormatBytes(kv_elements * 4).c_str());
  return absl::OkStatus();
}

}  // namespace

void AddInspect(CLI::App& app, Action* action) {
  CLI::App* command = app.add_subcommand("inspect", "Show what is in a GGUF file and whether Tandem runs it");
  auto flags = std::make_shared<Flags>();
  command->add_option("FILE", flags->path, "GGUF file")->required();
  command->add_flag("--tensors", flags->tensors, "List every tensor");
  command->callback([flags, action] { *action = [flags] { return Run(*flags); }; });
}

}  // namespace tandem::cli
