// Runs the seeds of the fuzzer in every build.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "absl/strings/string_view.h"

namespace tandem::engine {
bool FuzzChat(absl::string_view source);  // tests/fuzz/chat/chat_fuzz_body.cc

namespace {

TEST(ChatFuzzTest, SeedsKeepEveryPromise) {
  int accepted = 0, refused = 0;
  for (const auto& entry : std::filesystem::directory_iterator(TANDEM_SOURCE_DIR "/tests/fuzz/chat/corpus")) {
    std::ostringstream bytes;
    bytes << std::ifstream(entry.path(), std::ios::binary).rdbuf();
    SCOPED_TRACE(entry.path().string());
    (FuzzChat(bytes.str()) ? accepted : refused) += 1;
  }
  EXPECT_GE(accepted, 9);
  EXPECT_GE(refused, 2);
}

}  // namespace
}  // namespace tandem::engine
