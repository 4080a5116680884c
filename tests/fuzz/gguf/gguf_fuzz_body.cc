// What the GGUF fuzzer and the unit tests do with a file: parse it and touch all that it offers. Any crash, sanitizer
// report or broken promise (abort) is a finding. Declared by its two users: gguf_fuzzer.cc, gguf_robustness_test.cc.
#include <cstdlib>
#include <limits>
#include <memory>
#include <span>
#include <vector>

#include "absl/strings/match.h"
#include "engine/gguf/gguf_file.h"

namespace tandem::engine {
namespace {

void Require(bool promise) {
  if (!promise) std::abort();
}

void TouchMetadata(const GgufFile& file) {
  size_t characters = 0;
  for (const auto& [key, value] : file.metadata()) {
    Require(file.Find(key) == &value && file.Has(key));
    characters += FormatValue(value).size();
    characters += FormatValue(value, std::numeric_limits<size_t>::max()).size();
    Require(characters > 0);
    const bool is_integer = file.GetInt(key).ok() || file.GetUint(key).ok();
    const bool is_array = file.GetStrings(key).ok() || file.GetFloats(key).ok() || file.GetInts(key).ok();
    const int kinds =
        is_integer + is_array + file.GetFloat(key).ok() + file.GetBool(key).ok() + file.GetString(key).ok();
    Require(kinds <= 1);
  }
}

void TouchTensors(const GgufFile& file) {
  volatile uint8_t sink = 0;
  for (const GgufTensor& tensor : file.tensors()) {
    Require(file.FindTensor(tensor.name) == &tensor);
    Require(tensor.offset % file.alignment() == 0 && tensor.offset >= file.header().size());
    Require(tensor.bytes == *TensorBytes(tensor.type, tensor.dims));
    Require(tensor.cols() > 0 && tensor.rows() > 0);
    std::byte first, last;
    Require(file.Read(tensor, 0, {&first, 1}).ok() && file.Read(tensor, tensor.bytes - 1, {&last, 1}).ok());
    sink = sink ^ std::to_integer<uint8_t>(first) ^ std::to_integer<uint8_t>(last);
  }
}

// A worker parses the same header without the data; it must come to the same.
void ParseHeaderAlone(const GgufFile& file) {
  const std::span<const std::byte> header = file.header();
  const auto alone = GgufFile::ParseHeader({header.begin(), header.end()}, file.file_bytes());
  Require(alone.ok());
  Require((*alone)->header().size() == header.size() && (*alone)->file_bytes() == file.file_bytes());
  Require((*alone)->tensors().size() == file.tensors().size());
  for (const GgufTensor& tensor : file.tensors()) {
    const GgufTensor* twin = (*alone)->FindTensor(tensor.name);
    Require(twin != nullptr && twin->offset == tensor.offset && twin->bytes == tensor.bytes);
    if (!(*alone)->has_data()) Require(!(*alone)->ReadAll(*twin).ok());
  }
}

}  // namespace

// True if the bytes are a valid file.
bool FuzzGguf(std::span<const std::byte> bytes) {
  const absl::StatusOr<std::unique_ptr<GgufFile>> file = GgufFile::Parse(bytes);
  if (!file.ok()) {
    Require(!GgufFile::ParseHeader({bytes.begin(), bytes.end()}, bytes.size()).ok());
    const absl::StatusCode code = file.status().code();
    Require(code == absl::StatusCode::kInvalidArgument || code == absl::StatusCode::kUnimplemented);
    Require(absl::StartsWith(file.status().message(), "GGUF: "));
    Require(absl::StrContains(file.status().message(), "at byte"));
    Require(file.status().message().size() < 1000);
    return false;
  }
  TouchMetadata(**file);
  TouchTensors(**file);
  Require((*file)->header().size() <= bytes.size());
  Require((*file)->Fingerprint()->size() == 32);
  ParseHeaderAlone(**file);
  return true;
}

}  // namespace tandem::engine
