// Runs the seeds of the fuzzer in every build.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "absl/strings/string_view.h"

namespace tandem::engine {
bool FuzzTokenizer(absl::string_view bytes);  // tests/fuzz/tokenizer/tokenizer_fuzz_body.cc

namespace {

TEST(TokenizerFuzzTest, SeedsKeepEveryPromise) {
  int accepted = 0, refused = 0;
  for (const auto& entry : std::filesystem::directory_iterator(TANDEM_SOURCE_DIR "/tests/fuzz/tokenizer/corpus")) {
    std::ostringstream bytes;
    bytes << std::ifstream(entry.path(), std::ios::binary).rdbuf();
    SCOPED_TRACE(entry.path().string());
    (FuzzTokenizer(bytes.str()) ? accepted : refused) += 1;
  }
  EXPECT_GE(accepted, 14);
  EXPECT_GE(refused, 4);
}

}  // namespace
}  // namespace tandem::engine
