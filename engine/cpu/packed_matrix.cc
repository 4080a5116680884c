#include "engine/cpu/packed_matrix.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <new>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/cpu/pack_blocks.h"
#include "engine/quant/block_format.h"

namespace tandem::engine {
namespace {

// What a thread reads at once: stays in its L2 cache until it is packed, and is much for a system call.
constexpr uint64_t kSlabBytes = uint64_t{256} << 10;

absl::string_view TypeName(TensorType type) {
  const BlockFormat* format = FindBlockFormat(type);
  return format != nullptr ? format->name : absl::string_view("unknown");
}

}  // namespace

uint64_t PackedGroupBytes(TensorType type, uint64_t cols) {
  if (FindBlockLayout(type) == nullptr) return 0;
  const BlockFormat& format = *FindBlockFormat(type);
  if (cols % format.block_elements != 0) return 0;
  const uint64_t blocks = cols / format.block_elements;
  const uint64_t block_bytes = uint64_t{kRowGroup} * format.block_bytes;
  if (blocks > std::numeric_limits<uint64_t>::max() / block_bytes) return 0;
  return blocks * block_bytes;
}

absl::StatusOr<uint64_t> PackedMatrixBytes(TensorType type, uint64_t rows, uint64_t cols) {
  if (FindBlockLayout(type) == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("weights of type ", static_cast<uint32_t>(type), " (", TypeName(type),
                     ") have no CPU kernels; use one of the model's float or quantised forms, such as F16 or Q4_K"));
  }
  if (rows == 0 || cols == 0) {
    return absl::InvalidArgumentError(absl::StrCat("a weight matrix of ", rows, " x ", cols, " is empty"));
  }
  const uint32_t block_elements = FindBlockFormat(type)->block_elements;
  if (cols % block_elements != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("a ", TypeName(type), " matrix needs columns in multiples of ", block_elements, ", not ", cols));
  }
  const uint64_t group_bytes = PackedGroupBytes(type, cols);
  const uint64_t groups = rows / kRowGroup + (rows % kRowGroup != 0 ? 1 : 0);
  constexpr uint64_t kLimit = std::numeric_limits<int64_t>::max();
  if (group_bytes == 0 || groups > kLimit / group_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("a ", TypeName(type), " matrix of ", rows, " x ", cols, " is beyond 2^63 bytes"));
  }
  return groups * group_bytes;
}

absl::StatusOr<PackedMatrix> PackedMatrix::Pack(TensorType type, uint64_t rows, uint64_t cols, const RowReader& reader,
                                                ThreadPool& pool, WeightMemory& memory) {
  TANDEM_ASSIGN_OR_RETURN(const uint64_t bytes, PackedMatrixBytes(type, rows, cols));
  PackedMatrix matrix;
  matrix.type_ = type;
  matrix.rows_ = static_cast<int64_t>(rows);
  matrix.cols_ = static_cast<int64_t>(cols);
  matrix.group_bytes_ = PackedGroupBytes(type, cols);
  matrix.data_ = memory.Allocate(bytes);
  if (matrix.data_ == nullptr) {
    return absl::ResourceExhaustedError(
        absl::StrCat("no memory for ", bytes, " bytes of ", TypeName(type), " weights; give this worker fewer layers"));
  }
  std::vector<absl::Status> statuses(pool.size());
  std::atomic<bool> failed = false;
  // A reader that must be asked in order is asked by one thread after the other.
  for (int turn = 0; turn < (reader.concurrent ? 1 : pool.size()) && !failed; ++turn) {
    pool.ParallelFor(matrix.groups(), 1, [&](int64_t begin, int64_t end, int part) {
      if (!reader.concurrent && part != turn) return;
      statuses[part] = matrix.PackGroups(reader, begin, end, failed);
      if (!statuses[part].ok()) failed = true;
    });
  }
  for (const absl::Status& status : statuses) TANDEM_RETURN_IF_ERROR(status);
  return matrix;
}

absl::StatusOr<PackedMatrix> PackedMatrix::Pack(TensorType type, uint64_t rows, uint64_t cols,
                                                std::span<const std::byte> src, ThreadPool& pool) {
  TANDEM_ASSIGN_OR_RETURN(const uint64_t packed_bytes, PackedMatrixBytes(type, rows, cols));
  // A row is as large packed as it is in the file, so nothing overflows here.
  const uint64_t bytes = rows * (PackedGroupBytes(type, cols) / kRowGroup);
  if (src.size() != bytes) {
    return absl::InvalidArgumentError(absl::StrCat("a ", TypeName(type), " matrix of ", rows, " x ", cols, " has ",
                                                   bytes, " bytes, not ", src.size()));
  }
  const auto read = [src](uint64_t offset, std::span<std::byte> out) {
    std::memcpy(out.data(), src.data() + offset, out.size());
    return absl::OkStatus();
  };
  WeightMemory memory(packed_bytes);
  return Pack(type, rows, cols, RowReader{read, /*concurrent=*/true}, pool, memory);
}

// Packs groups [begin, end) unless another thread has failed.
absl::Status PackedMatrix::PackGroups(const RowReader& reader, int64_t begin, int64_t end,
                                      const std::atomic<bool>& failed) {
  const BlockLayout& layout = *FindBlockLayout(type_);
  const int64_t blocks = cols_ / FindBlockFormat(type_)->block_elements;
  const uint64_t row_bytes = group_bytes_ / kRowGroup;
  const int64_t at_once = std::min(end - begin, std::max<int64_t>(1, static_cast<int64_t>(kSlabBytes / group_bytes_)));
  const std::unique_ptr<std::byte[]> slab(new (std::nothrow) std::byte[at_once * group_bytes_]);
  if (slab == nullptr) {
    return absl::ResourceExhaustedError(
        absl::StrCat("no memory for ", at_once * group_bytes_, " bytes of weights on their way"));
  }
  for (int64_t first = begin; first < end && !failed.load(std::memory_order_relaxed); first += at_once) {
    const int64_t count = std::min(at_once, end - first);
    const uint64_t wanted = std::min((first + count) * kRowGroup, rows_) * row_bytes - first * group_bytes_;
    TANDEM_RETURN_IF_ERROR(reader.read(first * group_bytes_, {slab.get(), wanted}));
    std::memset(slab.get() + wanted, 0, count * group_bytes_ - wanted);  // the rows that fill up the last group
    for (int64_t i = 0; i < count; ++i) {
      PackGroup(layout, blocks, slab.get() + i * group_bytes_, data_.get() + (first + i) * group_bytes_);
    }
  }
  return absl::OkStatus();
}

void PackedMatrix::ReadRow(int64_t row, float* out) const {
  const BlockLayout& layout = *FindBlockLayout(type_);
  const BlockFormat& format = *FindBlockFormat(type_);
  const int lane = static_cast<int>(row % kRowGroup);
  const std::byte* packed = group(row / kRowGroup);
  const int64_t blocks = cols_ / format.block_elements;
  std::byte bytes[kLargestBlock];
  const int64_t most = static_cast<int64_t>(kLargestBlock / format.block_bytes);  // blocks that fit
  for (int64_t done = 0; done < blocks;) {
    const int64_t count = std::min(most, blocks - done);
    for (int64_t b = 0; b < count; ++b, packed += kRowGroup * format.block_bytes) {
      UnpackBlock(layout, packed, lane, bytes + b * format.block_bytes);
    }
    format.dequantize(bytes, out + done * format.block_elements, count * format.block_elements);
    done += count;
  }
}

}  // namespace tandem::engine
