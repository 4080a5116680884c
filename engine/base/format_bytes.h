// Amounts of memory, for people.
#pragma once

#include <cstdint>
#include <string>

namespace tandem {

// "512 B", "1.5 KiB", "766.4 MiB", "1.50 GiB". Thread-safe.
std::string FormatBytes(uint64_t bytes);

}  // namespace tandem
