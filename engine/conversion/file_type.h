// What people call the type of a model file, such as Q4_K_M: a number for general.file_type, and which format each
// tensor gets. The matrices that suffer most from few bits (values of the attention, the second matrix of the FFN, the
// head) get a better format than the rest. Source of numbers and rules: what llama.cpp's quantize tool writes, which
// published files follow.
#pragma once

#include <cstdint>
#include <span>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/gguf/gguf_file.h"
#include "engine/quant/block_format.h"

namespace tandem::engine {

struct FileType {
  absl::string_view name;  // upper case
  uint32_t number;         // general.file_type
  TensorType base;         // of every matrix for which no rule says otherwise
  // Made for an importance matrix: without one, the files it gives are poor.
  bool needs_importance = false;
};

std::span<const FileType> AllFileTypes();
// By name, any case; Q3_K, Q4_K and Q5_K are the _M ones, MXFP4 is MXFP4_MOE. Null if unknown.
const FileType* FindFileType(absl::string_view name);

// What the rules look at.
struct MixModel {
  absl::string_view architecture;
  int32_t layers = 0;
  int32_t heads_per_kv = 1;
  int32_t experts = 0;
  bool tied_head = false;
  bool has_importance = false;
};

// False for tensors that stay as they are: vectors, norms, routers, small convolutions, integers.
bool IsQuantized(const GgufTensor& tensor);

// The format of `tensor`, for which IsQuantized holds, in a file of `type`. Where its rows are no multiple of the
// block, a format with blocks of 32, or F16.
TensorType MixedType(const FileType& type, const MixModel& model, const GgufTensor& tensor);
// `type`, or the fallback where `cols` is no multiple of its block.
TensorType FittingType(TensorType type, uint64_t cols);

}  // namespace tandem::engine
