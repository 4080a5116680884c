// Speed of one tokenizer on one text, for run.py, which puts another engine beside it. Prints one JSON line: bytes a
// CPU second for encoding and decoding (best of the rounds), the number of ids and a checksum of them.
#include <algorithm>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <iterator>
#include <string>

#include <CLI/CLI.hpp>

#include "engine/tokenizer/tokenizer.h"

int main(int argc, char** argv) {
  using namespace tandem::engine;  // NOLINT: the subject of this program
  CLI::App app{"Tokenizes a text over and over"};
  std::string model, path;
  double seconds = 1.0;
  app.add_option("MODEL", model, "GGUF file")->required();
  app.add_option("TEXT", path, "Text file")->required();
  app.add_option("--seconds", seconds, "For each of encoding and decoding")->capture_default_str();
  CLI11_PARSE(app, argc, argv);

  const auto file = GgufFile::Open(model);
  const auto tokenizer = file.ok() ? Tokenizer::Create(**file) : file.status();
  if (!tokenizer.ok()) {
    std::fprintf(stderr, "%s: %s\n", model.c_str(), std::string(tokenizer.status().message()).c_str());
    return 1;
  }
  std::ifstream stream(path, std::ios::binary);
  const std::string text(std::istreambuf_iterator<char>(stream), {});
  if (text.empty()) {
    std::fprintf(stderr, "%s: no text\n", path.c_str());
    return 1;
  }

  // CPU seconds of the best round: other programs' work does not count.
  const auto cpu_seconds = [] { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; };
  const auto best_of = [&](auto work) {
    double best = 1e30;
    for (const double start = cpu_seconds(); cpu_seconds() - start < seconds;) {
      const double begin = cpu_seconds();
      work();
      best = std::min(best, cpu_seconds() - begin);
    }
    return best;
  };
  std::vector<TokenId> ids;
  std::string decoded;
  const double encode = best_of([&] { ids = (*tokenizer)->Encode(text, {}); });
  const double decode = best_of([&] { decoded = (*tokenizer)->Decode(ids); });
  uint64_t checksum = 0;
  for (const TokenId id : ids) checksum = (checksum * 31 + static_cast<uint64_t>(id)) % 1'000'000'007;
  std::printf(
      "{\"encode_bytes_per_s\": %.0f, \"decode_bytes_per_s\": %.0f, \"ids\": %zu, \"checksum\": %llu, \"lossless\": "
      "%s}\n",
      static_cast<double>(text.size()) / encode, static_cast<double>(text.size()) / decode, ids.size(),
      static_cast<unsigned long long>(checksum), decoded == text ? "true" : "false");
  return 0;
}
