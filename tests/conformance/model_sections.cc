#include <xxhash.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <iterator>
#include <span>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "engine/cache/kv_format.h"
#include "engine/cpu/packed_matrix.h"
#include "engine/gguf/gguf_file.h"
#include "engine/quant/block_format.h"
#include "tests/conformance/conformance.h"
#include "tests/support/architecture_models.h"
#include "tests/support/oracle/oracle.h"
#include "tests/support/reference.h"
#include "tests/support/stage_runner.h"

namespace tandem::testing {
namespace {

namespace fs = std::filesystem;
using engine::GgufFile;

constexpr int kGreedyTokens = 40;
constexpr int kOracleTokens = 40;  // past the tiny models' windows

const char* Mark(bool passed) { return passed ? "yes" : "NO"; }

// Names of the files FOLDER/*SUFFIX of the reference folder, without the suffix, sorted.
std::vector<std::string> ReferenceNames(const std::string& folder, const std::string& suffix) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(absl::StrCat(ReferenceFolder(), "/", folder))) {
    const std::string name = entry.path().filename().string();
    if (name.ends_with(suffix)) names.push_back(name.substr(0, name.size() - suffix.size()));
  }
  std::sort(names.begin(), names.end());
  return names;
}

// Logits of `tokens`; empty, and a line in `failures`, if the engine cannot compute them.
std::vector<float> LogitsOf(const GgufFile& file, std::span<const int32_t> tokens, const StageRunnerOptions& options,
                            const std::string& name, std::vector<std::string>* failures) {
  const auto runner = StageRunner::Create(file, options);
  if (!runner.ok()) {
    failures->push_back(absl::StrCat(name, ": ", runner.status().message()));
    return {};
  }
  const auto logits = (*runner)->Logits(tokens, static_cast<int>(tokens.size()));
  if (!logits.ok()) failures->push_back(absl::StrCat(name, ": ", logits.status().message()));
  return logits.ok() ? *logits : std::vector<float>();
}

// Eight digits that every machine must get.
std::string BitsOf(const std::vector<float>& logits) {
  return absl::StrFormat("%08x", XXH3_64bits(logits.data(), logits.size() * sizeof(float)) >> 32);
}

// What every architecture is held to, whatever it is compared with.
struct Measured {
  std::string bits;            // of the logits with an F32 cache
  std::vector<double> errors;  // by type of the KV cache; negative where the model's heads are not of whole blocks
  bool same_split = false;     // one stage a layer gives the same bits
  int32_t layers = 0;
};

// Bounds of the errors, in the order of KvType. A model of random weights, unlike a trained one, chooses other experts
// when something is rounded a little coarser, so only its F32 and F16 errors are bounded where there are many of them.
constexpr double kReferenceBounds[] = {kMaxErrorF32, kMaxErrorF16Kv, kMaxErrorBF16Kv, kMaxErrorQ8_0Kv, kMaxErrorQ4_0Kv};
constexpr double kRestatementBounds[] = {kMaxErrorF32, kMaxErrorF16Kv};

std::string ErrorCells(const Measured& measured) {
  std::string cells;
  for (const double error : measured.errors) {
    absl::StrAppend(&cells, "| ", error < 0 ? "-" : absl::StrFormat("%.1e", error), " ");
  }
  return cells;
}

// With as many types of KV cache as `types`.
Measured Measure(const GgufFile& file, std::span<const int32_t> tokens, std::span<const float> expected, size_t types,
                 const std::string& name, std::vector<std::string>* failures) {
  Measured measured;
  const std::vector<float> whole = LogitsOf(file, tokens, {}, name, failures);
  measured.errors.assign(types, INFINITY);
  if (whole.empty()) return measured;
  measured.bits = BitsOf(whole);
  const engine::ModelSpec spec = *engine::ReadModelSpec(file);
  for (size_t i = 0; i < measured.errors.size(); ++i) {
    const engine::KvFormat& format = engine::AllKvFormats()[i];
    const bool fits = spec.kv.key_dim % format.block_elements == 0 && spec.kv.value_dim % format.block_elements == 0;
    measured.errors[i] =
        fits ? RelativeError(LogitsOf(file, tokens, {.kv_type = format.type}, name, failures), expected) : -1;
  }
  measured.layers = spec.num_layers;
  measured.same_split = LogitsOf(file, tokens, {.stages = measured.layers}, name, failures) == whole;
  return measured;
}

std::string TensorTypesOf(const GgufFile& file) {
  std::vector<absl::string_view> names;
  for (const engine::GgufTensor& tensor : file.tensors()) {
    const absl::string_view name = engine::FindBlockFormat(tensor.type)->name;
    if (tensor.dims.size() > 1 && std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return absl::StrJoin(names, ", ");
}

}  // namespace

ConformanceSection BlockFormatSection() {
  ConformanceSection section;
  section.markdown =
      "## Block formats\n\nLayouts and formulas: `engine/quant`.\n\n"
      "| format | bits per weight | block | computes | `tandem quantize` makes it |\n|---|---|---|---|---|\n";
  for (const engine::BlockFormat& format : engine::AllBlockFormats()) {
    if (!format.computable()) continue;
    const bool kernels = engine::PackedGroupBytes(format.type, 256) > 0;
    if (!kernels) section.failures.push_back(absl::StrCat(format.name, " has no kernels"));
    absl::StrAppendFormat(&section.markdown, "| %s | %.4g | %d | %s | %s |\n", format.name, format.bits_per_weight(),
                          format.block_elements, Mark(kernels), format.quantize != nullptr ? "yes" : "-");
  }
  return section;
}

ConformanceSection QuantisedSection() {
  ConformanceSection section;
  section.markdown = absl::StrFormat(
      "## File types\n\nOne model in each file type: relative L2 error of the logits against exact arithmetic on the "
      "dequantised weights, and that of llama.cpp v0.5.0 on the same file. Both round activations to eight bits. "
      "Passed: at most %.2f times llama.cpp's (or %.0e where llama.cpp does not round).\n\n"
      "| file type | formats | error | llama.cpp's error | ratio | bits | passed |\n|---|---|---|---|---|---|---|\n",
      kMaxErrorRatio, kMaxErrorF32);
  for (const std::string& name : ReferenceNames("quant", ".gguf")) {
    const auto file = GgufFile::Open(absl::StrCat(ReferenceFolder(), "/quant/", name, ".gguf"));
    if (!file.ok()) {
      section.failures.push_back(absl::StrCat(name, ": ", file.status().message()));
      continue;
    }
    const std::vector<float> ours = LogitsOf(**file, kReferenceTokens, {}, name, &section.failures);
    std::vector<float> exact = ReadReferenceFloats(absl::StrCat("quant/", name, ".exact.logits.f32"));
    double theirs = ReadReferenceNumber("quant/llamacpp_relative_error.json", name);
    if (exact.empty()) {  // then the oracle's own arithmetic is exact, and theirs is measured against it
      const oracle::Rows rows = oracle::Logits(**file, kReferenceTokens);
      exact.assign(rows.values.begin(), rows.values.end());
      theirs = RelativeError(ReadReferenceFloats(absl::StrCat("quant/", name, ".llamacpp.logits.f32")), exact);
    }
    const double error = RelativeError(ours, exact);
    const bool passed = error <= std::max(kMaxErrorRatio * theirs, kMaxErrorF32);
    if (!passed) section.failures.push_back(absl::StrFormat("%s: error %.4g, llama.cpp's %.4g", name, error, theirs));
    const std::string ratio = theirs > kMaxErrorF32 ? absl::StrFormat("%.3f", error / theirs) : "-";
    absl::StrAppendFormat(&section.markdown, "| %s | %s | %.2e | %.2e | %s | %s | %s |\n", name, TensorTypesOf(**file),
                          error, theirs, ratio, BitsOf(ours), Mark(passed));
  }
  return section;
}

ConformanceSection ReferenceSection() {
  ConformanceSection section;
  section.markdown = absl::StrFormat(
      "## Architectures against llama.cpp\n\nRandom-weight F32 models: relative L2 error of the logits by type of the "
      "KV cache (bounds %.0e, %.0e, %.1e, %.0e and %.0e; - where heads are not of whole blocks of 32), %d greedy "
      "tokens "
      "equal, and the same bits with one stage a layer.\n\n"
      "| model | architecture | F32 KV | F16 KV | BF16 KV | Q8_0 KV | Q4_0 KV | greedy | split | bits | passed |\n"
      "|---|---|---|---|---|---|---|---|---|---|---|\n",
      kMaxErrorF32, kMaxErrorF16Kv, kMaxErrorBF16Kv, kMaxErrorQ8_0Kv, kMaxErrorQ4_0Kv, kGreedyTokens);
  for (const std::string& name : ReferenceNames("arch", ".gguf")) {
    const auto file = GgufFile::Open(absl::StrCat(ReferenceFolder(), "/arch/", name, ".gguf"));
    if (!file.ok()) {
      section.failures.push_back(absl::StrCat(name, ": ", file.status().message()));
      continue;
    }
    const std::vector<float> expected = ReadReferenceFloats(absl::StrCat("arch/", name, ".logits.f32"));
    const Measured measured =
        Measure(**file, kReferenceTokens, expected, std::size(kReferenceBounds), name, &section.failures);
    bool greedy = false;
    if (const auto runner = StageRunner::Create(**file, {}); runner.ok()) {
      const auto ids = (*runner)->Greedy(std::span(kReferenceTokens).first(kReferencePromptTokens), kGreedyTokens);
      greedy = ids.ok() && *ids == ReadReferenceIds(absl::StrCat("arch/", name, ".greedy"));
    }
    bool passed = greedy && measured.same_split;
    for (size_t i = 0; i < std::size(kReferenceBounds); ++i)
      passed = passed && measured.errors[i] < kReferenceBounds[i];
    if (!passed) section.failures.push_back(absl::StrCat(name, " is out of bounds"));
    absl::StrAppendFormat(&section.markdown, "| %s | %s %s| %s | %s | %s | %s |\n", name,
                          *(*file)->GetString("general.architecture"), ErrorCells(measured), Mark(greedy),
                          Mark(measured.same_split), measured.bits, Mark(passed));
  }
  return section;
}

ConformanceSection RestatementSection() {
  ConformanceSection section;
  section.markdown =
      "## Architectures against their definition\n\nSmall random-weight models, keys and tensors as converters write "
      "them, against a restatement of each public definition in double precision (`tests/support/oracle`).\n\n"
      "| variant | architecture | F32 KV | F16 KV | split | bits | passed "
      "|\n|---|---|---|---|---|---|---|\n";
  std::vector<int32_t> tokens;
  for (int i = 0; i < kOracleTokens; ++i) tokens.push_back((5 + i * 37) % 96);
  std::vector<ArchitectureModel> models = DenseArchitectureModels();
  const std::vector<ArchitectureModel> experts = ExpertArchitectureModels();
  models.insert(models.end(), experts.begin(), experts.end());
  for (const ArchitectureModel& model : models) {
    const TinyFile tiny = ParseTinyModel(model.make(model.seed));
    const oracle::Rows rows = oracle::Logits(*tiny.file, tokens);
    const std::vector<float> expected(rows.values.begin(), rows.values.end());
    const Measured measured =
        Measure(*tiny.file, tokens, expected, std::size(kRestatementBounds), model.name, &section.failures);
    bool passed = measured.same_split;
    for (size_t i = 0; i < std::size(kRestatementBounds); ++i) {
      passed = passed && measured.errors[i] < MaxErrorOf(model, kRestatementBounds[i]);
    }
    if (!passed) section.failures.push_back(absl::StrCat(model.name, " is out of bounds"));
    absl::StrAppendFormat(&section.markdown, "| %s | %s %s| %s | %s | %s |\n", model.name,
                          *tiny.file->GetString("general.architecture"), ErrorCells(measured),
                          Mark(measured.same_split), measured.bits, Mark(passed));
  }
  return section;
}

}  // namespace tandem::testing
