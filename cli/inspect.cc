// `tandem inspect FILE`: what is in a GGUF file, and what it takes to run it.
#include <algorithm>
#include <cstdio>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "cli/command.h"
#include "coordinator/placement/cost_model.h"
#include "engine/base/format_bytes.h"
#include "engine/base/status_macros.h"
#include "engine/gguf/gguf_file.h"
#include "engine/model/model_spec.h"
#include "engine/stage.h"

namespace tandem::cli {
namespace {

using Json = nlohmann::ordered_json;

struct Flags {
  std::string path;
  bool tensors = false, json = false;
};

std::string TypeName(engine::TensorType type) {
  const engine::BlockFormat* format = engine::FindBlockFormat(type);
  return format == nullptr ? absl::StrFormat("type %d", static_cast<uint32_t>(type)) : std::string(format->name);
}

struct TypeSum {
  uint64_t tensors = 0, weights = 0, bytes = 0;
};
std::map<std::string, TypeSum> SumByType(const engine::GgufFile& file) {
  std::map<std::string, TypeSum> sums;
  for (const engine::GgufTensor& tensor : file.tensors()) {
    TypeSum& sum = sums[TypeName(tensor.type)];
    ++sum.tensors;
    sum.bytes += tensor.bytes;
    sum.weights += tensor.cols() * tensor.rows();
  }
  return sums;
}

// What one machine needs that runs all of the model for one sequence, with keys and values in F16.
struct Needs {
  uint64_t bytes_per_token = 0;                                   // of weights, read for each token of one sequence
  std::vector<std::pair<int32_t, engine::StageMemory>> contexts;  // by length in tokens
};

absl::StatusOr<Needs> ComputeNeeds(const engine::ModelSpec& spec, const engine::GgufFile& file) {
  Needs needs;
  const engine::ModelCost cost = engine::ComputeModelCost(spec, file);
  double read = cost.head.ReadBytes(1);
  for (const engine::PartCost& layer : cost.layers) read += layer.ReadBytes(1);
  needs.bytes_per_token = static_cast<uint64_t>(read);
  for (const int32_t context : std::set<int32_t>{std::min(spec.context, coordinator::kDefaultContext), spec.context}) {
    engine::StageOptions options;
    options.end_layer = spec.num_layers;
    options.num_pages = (context + options.page_tokens - 1) / options.page_tokens;
    TANDEM_ASSIGN_OR_RETURN(const engine::StageMemory memory, engine::EstimateStageMemory(spec, file, options));
    needs.contexts.emplace_back(context, memory);
  }
  return needs;
}

// All that is said about a file. `spec` has the reason where Tandem cannot run it.
struct Findings {
  std::unique_ptr<engine::GgufFile> file;
  std::string fingerprint;
  absl::StatusOr<engine::ModelSpec> spec;
  Needs needs;
};

absl::StatusOr<Findings> Inspect(const std::string& path) {
  Findings findings;
  TANDEM_ASSIGN_OR_RETURN(findings.file, engine::GgufFile::Open(path));
  TANDEM_ASSIGN_OR_RETURN(findings.fingerprint, findings.file->Fingerprint());
  findings.spec = engine::ReadModelSpec(*findings.file);
  if (findings.spec.ok()) {
    TANDEM_ASSIGN_OR_RETURN(findings.needs, ComputeNeeds(*findings.spec, *findings.file));
  }
  return findings;
}

void PrintModel(const Findings& findings) {
  const engine::ModelSpec& spec = *findings.spec;
  std::printf("\n%s: %d layers, hidden %d, FFN %d, %d heads (%d KV) of %d, vocabulary %d, context %d\n",
              spec.architecture.c_str(), spec.num_layers, spec.hidden, spec.ffn, spec.heads, spec.kv_heads,
              spec.head_dim, spec.vocab, spec.context);
  if (spec.experts.count > 0) {
    std::printf("%d experts in a layer, of which a token uses %d\n", spec.experts.count, spec.experts.used);
  }
  std::printf("\nTandem runs this file. Memory for one sequence, on one machine or over all together:\n");
  for (const auto& [context, memory] : findings.needs.contexts) {
    std::printf("  %7d tokens of context: %s (weights %s, KV cache %s in F16, scratch %s)\n", context,
                FormatBytes(memory.total()).c_str(), FormatBytes(memory.weights).c_str(),
                FormatBytes(memory.kv).c_str(), FormatBytes(memory.scratch).c_str());
  }
  std::printf("Read for each token of one sequence: %s of weights\n",
              FormatBytes(findings.needs.bytes_per_token).c_str());
}

void PrintText(const Flags& flags, const Findings& findings) {
  const engine::GgufFile& file = *findings.file;
  std::printf("%s: GGUF version %u, %s, alignment %u, fingerprint %s\n\nmetadata\n", flags.path.c_str(), file.version(),
              FormatBytes(file.file_bytes()).c_str(), file.alignment(), findings.fingerprint.c_str());
  for (const auto& [key, value] : file.metadata()) {
    std::printf("  %-44s %s\n", std::string(key).c_str(), engine::FormatValue(value).c_str());
  }
  std::printf("\ntensors: %zu\n", file.tensors().size());
  for (const auto& [name, sum] : SumByType(file)) {
    std::printf("  %-8s %6llu tensors %14llu weights %12s\n", name.c_str(),
                static_cast<unsigned long long>(sum.tensors), static_cast<unsigned long long>(sum.weights),
                FormatBytes(sum.bytes).c_str());
  }
  if (flags.tensors) {
    for (const engine::GgufTensor& tensor : file.tensors()) {
      std::printf("  %-40s %-8s %-20s %12s\n", tensor.name.c_str(), TypeName(tensor.type).c_str(),
                  absl::StrJoin(tensor.dims, " x ").c_str(), FormatBytes(tensor.bytes).c_str());
    }
  }
  if (findings.spec.ok()) PrintModel(findings);
}

constexpr size_t kShownItems = 32;  // of an array in JSON

Json ItemToJson(absl::string_view item) { return std::string(item); }
template <typename T>
Json ItemToJson(T item) {
  return Json(item);
}

// Arrays, which may be a vocabulary, are shortened to {"count", "first"}.
Json ValueToJson(const engine::GgufValue& value) {
  return std::visit(
      [](const auto& held) -> Json {
        using T = std::decay_t<decltype(held)>;
        if constexpr (!std::is_same_v<T, engine::GgufArray>) {
          return ItemToJson(held);
        } else {
          return std::visit(
              [](const auto& items) -> Json {
                using Item = typename std::decay_t<decltype(items)>::value_type;
                Json first = Json::array();
                const size_t shown = std::min(items.size(), kShownItems);
                for (size_t i = 0; i < shown; ++i) first.push_back(ItemToJson(static_cast<Item>(items[i])));
                return shown == items.size() ? first : Json{{"count", items.size()}, {"first", first}};
              },
              held);
        }
      },
      value);
}

Json ModelToJson(const engine::ModelSpec& spec) {
  return {{"architecture", spec.architecture},
          {"layers", spec.num_layers},
          {"hidden", spec.hidden},
          {"ffn", spec.ffn},
          {"heads", spec.heads},
          {"kv_heads", spec.kv_heads},
          {"head_dim", spec.head_dim},
          {"vocab", spec.vocab},
          {"context", spec.context}};
}

void PrintJson(const Flags& flags, const Findings& findings) {
  const engine::GgufFile& file = *findings.file;
  Json json = {{"file", flags.path},
               {"gguf_version", file.version()},
               {"bytes", file.file_bytes()},
               {"alignment", file.alignment()},
               {"fingerprint", findings.fingerprint},
               {"metadata", Json::object()},
               {"types", Json::object()},
               {"tensors", Json::array()},
               {"runs", findings.spec.ok()}};
  for (const auto& [key, value] : file.metadata()) json["metadata"][std::string(key)] = ValueToJson(value);
  for (const auto& [name, sum] : SumByType(file)) {
    json["types"][name] = {{"tensors", sum.tensors}, {"weights", sum.weights}, {"bytes", sum.bytes}};
  }
  for (const engine::GgufTensor& tensor : file.tensors()) {
    json["tensors"].push_back(
        {{"name", tensor.name}, {"type", TypeName(tensor.type)}, {"dims", tensor.dims}, {"bytes", tensor.bytes}});
  }
  if (findings.spec.ok()) {
    json["model"] = ModelToJson(*findings.spec);
    json["bytes_read_per_token"] = findings.needs.bytes_per_token;
    for (const auto& [context, memory] : findings.needs.contexts) {
      json["memory"].push_back(
          {{"context", context}, {"weights", memory.weights}, {"kv_f16", memory.kv}, {"scratch", memory.scratch}});
    }
  } else {
    json["reason"] = std::string(findings.spec.status().message());
  }
  // Names come from the file and need not be UTF-8.
  std::printf("%s\n", json.dump(2, ' ', false, Json::error_handler_t::replace).c_str());
}

absl::Status Run(const Flags& flags) {
  TANDEM_ASSIGN_OR_RETURN(const Findings findings, Inspect(flags.path));
  flags.json ? PrintJson(flags, findings) : PrintText(flags, findings);
  if (findings.spec.ok()) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat(flags.path, ": Tandem cannot run this file: ", findings.spec.status().message()));
}

}  // namespace

void AddInspect(CLI::App& app, Action* action) {
  CLI::App* command = app.add_subcommand(
      "inspect", "Show what is in a GGUF file, whether Tandem runs it (else: exit code 1), and what it takes");
  auto flags = std::make_shared<Flags>();
  command->add_option("FILE", flags->path, "GGUF file; of a model in parts: any of them")->required();
  command->add_flag("--tensors", flags->tensors, "List every tensor");
  command->add_flag("--json", flags->json, "Everything as JSON, tensors included");
  command->callback([flags, action] { *action = [flags] { return Run(*flags); }; });
}

}  // namespace tandem::cli
