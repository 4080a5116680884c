#include "engine/evaluation/base_logits.h"

#include <unistd.h>
#include <xxhash.h>

#include <bit>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"

namespace tandem::engine {
namespace {

static_assert(std::endian::native == std::endian::little, "the file is little-endian");

constexpr char kMagic[8] = {'T', 'N', 'D', 'M', 'B', 'A', 'S', 'E'};
constexpr uint32_t kVersion = 1;

struct Header {
  char magic[8];
  uint32_t version, vocab;
  uint64_t rows, identity;
};
static_assert(sizeof(Header) == 32, "no padding: written as it lies in memory");

}  // namespace

uint64_t ScoringIdentity(std::span<const int32_t> text, const ScoringOptions& options) {
  const int32_t fields[] = {options.context, options.stride, options.bos};
  return XXH3_64bits_withSeed(text.data(), text.size_bytes(), XXH3_64bits(fields, sizeof(fields)));
}

BaseLogitsWriter::BaseLogitsWriter(std::string path, int32_t vocab, uint64_t identity)
    : path_(std::move(path)),
      temporary_(absl::StrCat(path_, ".tmp.", getpid())),
      vocab_(static_cast<uint32_t>(vocab)),
      identity_(identity),
      file_(temporary_, std::ios::binary | std::ios::trunc) {}

BaseLogitsWriter::~BaseLogitsWriter() {
  file_.close();
  std::remove(temporary_.c_str());  // no longer there after Finish
}

absl::Status BaseLogitsWriter::Check(const char* action) {
  if (file_.good()) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat(path_, ": cannot ", action, ": ", std::strerror(errno)));
}

absl::StatusOr<std::unique_ptr<BaseLogitsWriter>> BaseLogitsWriter::Create(const std::string& path, int32_t vocab,
                                                                           uint64_t identity) {
  std::unique_ptr<BaseLogitsWriter> writer(new BaseLogitsWriter(path, vocab, identity));
  TANDEM_RETURN_IF_ERROR(writer->Check("create"));
  writer->file_.seekp(sizeof(Header));  // written by Finish, when the rows are counted
  return writer;
}

absl::Status BaseLogitsWriter::Append(std::span<const float> logits) {
  file_.write(reinterpret_cast<const char*>(logits.data()), static_cast<std::streamsize>(logits.size_bytes()));
  values_ += logits.size();
  return Check("write");
}

absl::Status BaseLogitsWriter::Finish() {
  Header header{.version = kVersion, .vocab = vocab_, .rows = values_ / vocab_, .identity = identity_};
  std::memcpy(header.magic, kMagic, sizeof(kMagic));
  file_.seekp(0);
  file_.write(reinterpret_cast<const char*>(&header), sizeof(header));
  file_.flush();
  TANDEM_RETURN_IF_ERROR(Check("write"));
  if (std::rename(temporary_.c_str(), path_.c_str()) == 0) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat(path_, ": cannot rename to its final name: ", std::strerror(errno)));
}

absl::StatusOr<std::unique_ptr<BaseLogitsReader>> BaseLogitsReader::Open(const std::string& path, int32_t vocab,
                                                                         uint64_t identity) {
  const auto invalid = [&path](const auto&... problem) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": ", problem...));
  };
  std::error_code error;
  const uint64_t size = std::filesystem::file_size(path, error);
  if (error) return absl::NotFoundError(absl::StrCat(path, ": cannot read: ", error.message()));
  std::unique_ptr<BaseLogitsReader> reader(new BaseLogitsReader(path));
  reader->file_.open(path, std::ios::binary);
  Header header;
  if (!reader->file_.read(reinterpret_cast<char*>(&header), sizeof(header)) ||
      std::memcmp(header.magic, kMagic, sizeof(kMagic)) != 0) {
    return invalid("is no file of base logits");
  }
  if (header.version != kVersion) return invalid("has version ", header.version, ", expected ", kVersion);
  if (header.vocab != static_cast<uint32_t>(vocab)) {
    return invalid("is of a model with ", header.vocab, " tokens, this one has ", vocab);
  }
  if (header.identity != identity) {
    return invalid("was saved with another text, tokenizer, context or stride: save it again with these");
  }
  const uint64_t row_bytes = uint64_t{header.vocab} * sizeof(float);
  if ((size - sizeof(header)) / row_bytes < header.rows) {
    return invalid("is cut short: ", header.rows, " rows of ", row_bytes, " bytes do not fit in its ", size);
  }
  return reader;
}

absl::Status BaseLogitsReader::Read(std::span<float> logits) {
  if (file_.read(reinterpret_cast<char*>(logits.data()), static_cast<std::streamsize>(logits.size_bytes()))) {
    return absl::OkStatus();
  }
  return absl::DataLossError(absl::StrCat(path_, ": ends before the text does"));
}

}  // namespace tandem::engine
