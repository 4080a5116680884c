// Replays the seeds of the fuzzers.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "absl/strings/string_view.h"

namespace tandem::engine::grammar {

bool FuzzGbnf(absl::string_view text);  // tests/fuzz/grammar/grammar_fuzz_body.cc
bool FuzzJsonSchema(absl::string_view text);

namespace {

// How many seeds of `folder` compile, and how many there are.
std::pair<int, int> Replay(const char* folder, bool (*fuzz)(absl::string_view)) {
  int compiled = 0, seeds = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::string(TANDEM_SOURCE_DIR "/tests/fuzz/grammar/") + folder)) {
    std::ifstream file(entry.path(), std::ios::binary);
    compiled += fuzz(std::string(std::istreambuf_iterator<char>(file), {}));
    ++seeds;
  }
  return {compiled, seeds};
}

TEST(GrammarFuzzReplayTest, TheSeedsHoldThePromises) {
  const auto [grammars, grammar_seeds] = Replay("gbnf_corpus", FuzzGbnf);
  EXPECT_GE(grammars, 5);
  EXPECT_LT(grammars, grammar_seeds) << "some are wrong on purpose";
  const auto [schemas, schema_seeds] = Replay("schema_corpus", FuzzJsonSchema);
  EXPECT_GE(schemas, 7);
  EXPECT_LT(schemas, schema_seeds);
}

}  // namespace
}  // namespace tandem::engine::grammar
