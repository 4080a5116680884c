#include "engine/conversion/quantize_model.h"

#include <algorithm>
#include <memory>
#include <span>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/gguf/gguf_writer.h"

namespace tandem::engine {
namespace {

constexpr uint32_t kQuantizationVersion = 2;  // of the block formats that are in use
constexpr char kEmbedding[] = "token_embd.weight", kHead[] = "output.weight";

absl::string_view NameOf(TensorType type) { return FindBlockFormat(type)->name; }

bool IsFloat(TensorType type) {
  return type == TensorType::kF32 || type == TensorType::kF16 || type == TensorType::kBF16;
}

// A number of the model's header, the largest one where each layer has its own; `fallback` if there is none.
int32_t HeaderNumber(const GgufFile& file, absl::string_view architecture, absl::string_view key, int32_t fallback) {
  const std::string name = absl::StrCat(architecture, ".", key);
  int64_t value = fallback;
  if (const absl::StatusOr<int64_t> number = file.GetInt(name); number.ok()) {
    value = *number;
  } else if (const absl::StatusOr<std::vector<int64_t>> each = file.GetInts(name); each.ok() && !each->empty()) {
    value = *std::max_element(each->begin(), each->end());
  }
  return static_cast<int32_t>(std::clamp<int64_t>(value, 0, 1 << 24));
}

MixModel MixModelOf(const GgufFile& file, const ImportanceMatrix* importance) {
  MixModel model;
  const absl::StatusOr<absl::string_view> architecture = file.GetString("general.architecture");
  if (architecture.ok()) model.architecture = *architecture;
  model.layers = HeaderNumber(file, model.architecture, "block_count", 0);
  const int32_t heads = HeaderNumber(file, model.architecture, "attention.head_count", 1);
  const int32_t kv_heads = HeaderNumber(file, model.architecture, "attention.head_count_kv", heads);
  model.heads_per_kv = kv_heads > 0 ? heads / kv_heads : 1;
  model.experts = HeaderNumber(file, model.architecture, "expert_count", 0);
  model.tied_head = file.FindTensor(kHead) == nullptr;
  model.has_importance = importance != nullptr;
  return model;
}

// The format that someone asked for by name, if they did.
std::optional<TensorType> AskedFor(const QuantizeOptions& options, const MixModel& model, const GgufTensor& tensor) {
  if (tensor.name == kHead) return options.head;
  if (tensor.name != kEmbedding) return std::nullopt;
  return options.embedding.has_value() || !model.tied_head ? options.embedding : options.head;
}

absl::StatusOr<TensorChange> PlanTensor(const QuantizeOptions& options, const MixModel& model,
                                        const GgufTensor& tensor) {
  TensorChange change{.from = tensor.type, .to = tensor.type};
  if (!IsQuantized(tensor)) return change;
  const std::optional<TensorType> asked = AskedFor(options, model, tensor);
  change.to = asked.has_value() ? FittingType(*asked, tensor.cols()) : MixedType(*options.type, model, tensor);
  // Rows of 256 and a multiple fit every format, so this is what the rules would say if they did not look at the row.
  GgufTensor fitting = tensor;
  fitting.dims[0] = 256;
  change.fell_back = change.to != (asked.has_value() ? *asked : MixedType(*options.type, model, fitting));
  if (change.to == change.from) return change;
  if (FindBlockFormat(change.to)->quantize == nullptr) {
    return absl::UnimplementedError(absl::StrCat("tensor ", tensor.name, " would become ", NameOf(change.to),
                                                 ", which Tandem reads but does not write; choose another file type"));
  }
  change.requantized = !IsFloat(change.from) && !IsFloat(change.to);
  if (!IsFloat(change.from) && !options.allow_requantize) {
    return absl::FailedPreconditionError(
        absl::StrCat("tensor ", tensor.name, " is ", NameOf(change.from),
                     " already: quantising again loses more than "
                     "quantising the original once; take the original, or give --allow-requantize"));
  }
  change.lacks_importance =
      options.importance != nullptr && !IsFloat(change.to) && options.importance->For(tensor.name).empty();
  return change;
}

absl::Status CheckImportance(const GgufFile& file, const QuantizeOptions& options) {
  if (options.importance == nullptr) return absl::OkStatus();
  for (const GgufTensor& tensor : file.tensors()) {
    const size_t size = options.importance->For(tensor.name).size();
    const uint64_t experts = tensor.dims.size() > 2 ? tensor.dims[2] : 1;
    if (size == 0 || size == tensor.cols() || size == tensor.cols() * experts) continue;
    return absl::InvalidArgumentError(absl::StrCat("the importance matrix has ", size, " values for tensor ",
                                                   tensor.name, ", which has ", tensor.cols(),
                                                   " columns: it belongs to another model"));
  }
  return absl::OkStatus();
}

// Converts rows of one file into rows of another. One a thread.
class RowConverter {
 public:
  RowConverter(const GgufFile& file, const QuantizeOptions& options) : file_(file), options_(options) {}

  // The rows of `piece` in the new format, until the next call.
  absl::StatusOr<std::span<const std::byte>> Convert(const Piece& piece, TensorType to) {
    const GgufTensor& tensor = file_.tensors()[piece.tensor];
    const uint64_t in_row = tensor.bytes / tensor.rows();
    in_.resize(piece.rows * in_row);
    TANDEM_RETURN_IF_ERROR(file_.Read(tensor, piece.first_row * in_row, in_));
    if (to == tensor.type) return std::span<const std::byte>(in_);
    const BlockFormat& from_format = *FindBlockFormat(tensor.type);
    const BlockFormat& format = *FindBlockFormat(to);
    const uint64_t cols = tensor.cols(), out_row = cols / format.block_elements * format.block_bytes;
    const std::span<const float> importance = ImportanceOf(tensor);
    floats_.resize(cols);
    out_.resize(piece.rows * out_row);
    for (uint64_t row = 0; row < piece.rows; ++row) {
      from_format.dequantize(in_.data() + row * in_row, floats_.data(), cols);
      const uint64_t expert = importance.size() > cols ? (piece.first_row + row) / tensor.dims[1] : 0;
      format.quantize(floats_.data(), importance.empty() ? nullptr : importance.data() + expert * cols,
                      out_.data() + row * out_row, cols);
    }
    return std::span<const std::byte>(out_);
  }

 private:
  std::span<const float> ImportanceOf(const GgufTensor& tensor) const {
    return options_.importance == nullptr ? std::span<const float>() : options_.importance->For(tensor.name);
  }

  const GgufFile& file_;
  const QuantizeOptions& options_;
  std::vector<std::byte> in_, out_;
  std::vector<float> floats_;
};

}  // namespace

absl::StatusOr<std::vector<TensorChange>> PlanQuantization(const GgufFile& file, const QuantizeOptions& options) {
  if (options.type->needs_importance && options.importance == nullptr) {
    return absl::FailedPreconditionError(absl::StrCat(
        "a ", options.type->name, " file made without an importance matrix is of no use; give one with --imatrix"));
  }
  const MixModel model = MixModelOf(file, options.importance);
  std::vector<TensorChange> plan;
  for (const GgufTensor& tensor : file.tensors()) {
    TANDEM_ASSIGN_OR_RETURN(const TensorChange change, PlanTensor(options, model, tensor));
    plan.push_back(change);
  }
  return plan;
}

absl::Status QuantizeModel(const GgufFile& file, const QuantizeOptions& options, const std::vector<TensorChange>& plan,
                           const std::string& path, ThreadPool& pool, const PieceProgress& progress,
                           const std::function<bool()>& cancelled) {
  TANDEM_RETURN_IF_ERROR(CheckImportance(file, options));
  GgufWriter writer;
  for (const auto& [key, value] : file.metadata()) {
    if (!absl::StartsWith(key, "split.")) writer.SetValue(key, value);
  }
  writer.SetUint32("general.file_type", options.type->number);
  writer.SetUint32("general.quantization_version", kQuantizationVersion);
  std::vector<PieceShape> shapes;
  for (size_t i = 0; i < plan.size(); ++i) {
    const GgufTensor& tensor = file.tensors()[i];
    TANDEM_RETURN_IF_ERROR(writer.ReserveTensor(tensor.name, plan[i].to, tensor.dims));
    TANDEM_ASSIGN_OR_RETURN(const uint64_t bytes, TensorBytes(plan[i].to, tensor.dims));
    shapes.push_back({.rows = tensor.rows(), .row_bytes = bytes / tensor.rows()});
  }
  TANDEM_ASSIGN_OR_RETURN(const std::unique_ptr<GgufOutput> output, writer.Create(path));
  std::vector<RowConverter> converters(pool.size(), RowConverter(file, options));
  const auto convert = [&](const Piece& piece, int part) -> absl::Status {
    TANDEM_ASSIGN_OR_RETURN(const std::span<const std::byte> rows,
                            converters[part].Convert(piece, plan[piece.tensor].to));
    return output->Write(piece.tensor, piece.first_row * shapes[piece.tensor].row_bytes, rows);
  };
  TANDEM_RETURN_IF_ERROR(ForEachPiece(shapes, pool, progress, cancelled, convert));
  return output->Finish();
}

}  // namespace tandem::engine
