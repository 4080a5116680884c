// Speed of one chat template on one input, for run.py, which puts another engine beside it. Prints one JSON line: the
// CPU
// seconds of parsing and of rendering, and the text.
#include <cstdio>
#include <ctime>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>

#include <CLI/CLI.hpp>

#include "engine/chat/chat_template.h"
#include "engine/chat/json_value.h"

int main(int argc, char** argv) {
  using namespace tandem::engine;  // NOLINT: the subject of this program
  CLI::App app{"Renders a chat template over and over"};
  std::string source_path, input_path;
  double seconds = 0.2;
  app.add_option("TEMPLATE", source_path, "Jinja file")->required();
  app.add_option("INPUT", input_path, "JSON file: the variables")->required();
  app.add_option("--seconds", seconds, "For each of parsing and rendering")->capture_default_str();
  CLI11_PARSE(app, argc, argv);

  const auto read = [](const std::string& path) {
    std::ifstream stream(path, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(stream), {});
  };
  const std::string source = read(source_path);
  const auto input = jinja::ValueFromJson(read(input_path));
  const auto chat = ChatTemplate::Parse(source);
  if (!input.ok() || !chat.ok()) {
    std::fprintf(stderr, "%s\n", std::string((input.ok() ? chat.status() : input.status()).message()).c_str());
    return 1;
  }

  // CPU seconds of a call on average: other programs' work does not count.
  const auto mean_of = [seconds](auto work) {
    const auto cpu_seconds = [] { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; };
    const double start = cpu_seconds();
    int calls = 0;
    do {
      for (int i = 0; i < 50; ++i, ++calls) work();
    } while (cpu_seconds() - start < seconds);
    return (cpu_seconds() - start) / calls;
  };
  absl::StatusOr<std::string> text;
  nlohmann::json result;
  result["parse_s"] = mean_of([&] { (void)ChatTemplate::Parse(source).ok(); });
  result["render_s"] = mean_of([&] { text = (*chat)->Render(*input, absl::CivilSecond(2024, 7, 26, 12)); });
  if (text.ok()) result["text"] = *text;
  std::printf("%s\n", result.dump().c_str());
  return 0;
}
