// Speed of a whole model in one stage: loading, prefill, decode, decode of several sequences, decode after a long
// context. Prints one line of JSON; run.py puts it beside llama.cpp.
//
//   engine_speed MODEL.gguf [--threads N] [--isa NAME] [--kv NAME] [--prefill 512] [--decode 32] [--batch N]...
//   [--context N]...
//
// Keys and values are F16 unless --kv says otherwise. Every figure is the median of --rounds rounds.
#include <sys/mman.h>
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "engine/base/status_macros.h"
#include "engine/cache/kv_format.h"
#include "engine/cpu/thread_pool.h"
#include "engine/stage.h"

namespace tandem::engine {
namespace {

constexpr int kPageTokens = 32;

struct Options {
  std::string model;
  int threads = 1, prefill = 512, decode = 32, rounds = 3;
  Isa isa = DetectIsa();
  KvType kv_type = KvType::kF16;
  std::vector<int> batches, contexts;
};

double Seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// Of all threads, in the kernel too.
double ProcessorSeconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) { return static_cast<double>(time.tv_sec) + 1e-6 * time.tv_usec; };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// Bytes per second, out of huge pages where there are any: weights lie in such.
double ReadBandwidth(int threads) {
  constexpr int64_t kWords = int64_t{1} << 27;
  constexpr size_t kHugePage = size_t{2} << 20;
  const std::unique_ptr<uint64_t[], void (*)(void*)> data(
      static_cast<uint64_t*>(std::aligned_alloc(kHugePage, kWords * sizeof(uint64_t))), std::free);
  if (data == nullptr) return 0;
  (void)madvise(data.get(), kWords * sizeof(uint64_t), MADV_HUGEPAGE);
  std::fill_n(data.get(), kWords, 1);
  ThreadPool pool(threads, true);
  double best = 1e9;
  for (int i = 0; i < 5; ++i) {
    const double start = Seconds();
    std::atomic<uint64_t> total{0};
    pool.ParallelFor(kWords, 64, [&](int64_t begin, int64_t end, int) {
      uint64_t sums[16] = {};  // so many that no addition waits for the one before
      for (int64_t k = begin; k < end; k += 16) {
        for (int i = 0; i < 16; ++i) sums[i] += data[k + i];
      }
      for (const uint64_t sum : sums) total += sum;
    });
    best = total == kWords ? std::min(best, Seconds() - start) : best;
  }
  return static_cast<double>(kWords * sizeof(uint64_t)) / best;
}

// The steps of one model.
class Runner {
 public:
  Runner(std::unique_ptr<Stage> stage, int rounds) : stage_(std::move(stage)), rounds_(rounds) {}

  // Copies the first page, which has a key, to all others: the system backs memory with its own when it is written, and
  // reads of what it has not backed all go to one page of zeros, which the caches hold.
  void WriteAllPages(int pages) {
    StepSeconds(1, 0, 1);
    std::vector<PageCopy> copies;
    for (int page = 1; page < pages; ++page) copies.push_back({0, static_cast<uint32_t>(page)});
    StepSeconds(1, 0, 1, std::move(copies));
  }

  // Seconds of a step in which `sequences` sequences of `position` tokens get `tokens` more each.
  double StepSeconds(int sequences, int position, int tokens, std::vector<PageCopy> copies = {}) {
    const int pages_each = (position + tokens + kPageTokens - 1) / kPageTokens;
    std::vector<std::vector<uint32_t>> pages(sequences);
    std::vector<int32_t> ids(tokens);
    for (int i = 0; i < tokens; ++i) ids[i] = (i * 37) % 500 + 3;
    Step step = {.copies = std::move(copies)};
    for (int s = 0; s < sequences; ++s) {
      for (int p = 0; p < pages_each; ++p) pages[s].push_back(s * pages_each + p);
      step.slices.push_back({.position = position,
                             .tokens = ids,
                             .pages = pages[s],
                             .output = SliceOutput::kSample,
                             .sampling = &greedy_});
    }
    const double start = Seconds();
    if (const absl::Status status = stage_->Run(step, &result_); !status.ok()) {
      std::fprintf(stderr, "%s\n", status.ToString().c_str());
      std::exit(1);
    }
    return Seconds() - start;
  }

  // Tokens per second.
  double Prefill(int tokens) {
    std::vector<double> times;
    for (int i = 0; i < rounds_; ++i) times.push_back(StepSeconds(1, 0, tokens));
    return tokens / Median(times);
  }
  double Decode(int sequences, int position, int tokens) {
    std::vector<double> times;
    for (int i = 0; i < rounds_; ++i) {
      double total = 0;
      for (int t = 0; t < tokens; ++t) total += StepSeconds(sequences, position + t, 1);
      times.push_back(total);
    }
    return sequences * tokens / Median(times);
  }

 private:
  const std::unique_ptr<Stage> stage_;
  const int rounds_;
  const SamplingParams greedy_;
  StepResult result_;
};

int PagesWanted(const Options& options) {
  int tokens = options.prefill;
  for (const int batch : options.batches) tokens = std::max(tokens, batch * (64 + options.decode));
  for (const int context : options.contexts) tokens = std::max(tokens, context + options.decode);
  return tokens / kPageTokens + 64;
}

absl::Status Measure(const Options& options) {
  TANDEM_ASSIGN_OR_RETURN(const std::unique_ptr<GgufFile> file, GgufFile::Open(options.model));
  TANDEM_ASSIGN_OR_RETURN(const ModelSpec spec, ReadModelSpec(*file));
  FileTensorSource source(*file);
  const StageOptions stage = {.end_layer = spec.num_layers,
                              .kv_type = options.kv_type,
                              .page_tokens = kPageTokens,
                              .num_pages = PagesWanted(options),
                              .max_step_tokens = std::max(options.prefill, 64),
                              .isa = options.isa,
                              .threads = options.threads};
  const double start = Seconds(), start_cpu = ProcessorSeconds();
  TANDEM_ASSIGN_OR_RETURN(std::unique_ptr<Stage> loaded, Stage::Load(spec, *file, source, stage, nullptr, nullptr));
  nlohmann::ordered_json out;
  out["isa"] = std::string(IsaName(options.isa));
  out["threads"] = options.threads;
  out["load_s"] = Seconds() - start;
  out["load_cpu_s"] = ProcessorSeconds() - start_cpu;
  const StageMemory memory = loaded->memory();
  out["weights_bytes"] = memory.weights;
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  out["load_peak_bytes"] = usage.ru_maxrss * 1024;
  out["read_bytes_per_s"] = ReadBandwidth(options.threads);
  out["memory_bytes"] = memory.total();

  Runner runner(std::move(loaded), options.rounds);
  runner.WriteAllPages(stage.num_pages);
  if (options.prefill > 0) out["prefill"] = runner.Prefill(options.prefill);
  out["decode"] = runner.Decode(1, 16, options.decode);
  for (const int batch : options.batches) {
    out["batch"][std::to_string(batch)] = runner.Decode(batch, 16, options.decode);
  }
  for (const int context : options.contexts) {
    out["context"][std::to_string(context)] = runner.Decode(1, context, options.decode);
  }
  std::printf("%s\n", out.dump().c_str());
  return absl::OkStatus();
}

[[noreturn]] void Usage(const std::string& what) {
  std::fprintf(
      stderr,
      "engine_speed: %s\nengine_speed MODEL.gguf [--threads N] [--isa NAME] [--kv NAME] [--prefill N] [--decode N] "
      "[--rounds N] [--batch N]... [--context N]...\n",
      what.c_str());
  std::exit(2);
}

Options ReadArguments(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string_view name = argv[i];
    if (name[0] != '-') {
      options.model = name;
      continue;
    }
    if (i + 1 == argc) Usage("a value is missing at the end");
    const std::string value = argv[++i];
    if (name == "--isa") {
      const absl::StatusOr<Isa> isa = ParseIsa(value);
      if (!isa.ok()) Usage(isa.status().ToString());
      options.isa = *isa;
      continue;
    }
    if (name == "--kv") {
      const absl::StatusOr<KvType> type = ParseKvType(value);
      if (!type.ok()) Usage(type.status().ToString());
      options.kv_type = *type;
      continue;
    }
    int number = 0;
    if (!absl::SimpleAtoi(value, &number) || number < 0) Usage("not a count: " + value);
    if (name == "--threads")
      options.threads = number;
    else if (name == "--prefill")
      options.prefill = number;
    else if (name == "--decode")
      options.decode = std::max(1, number);
    else if (name == "--rounds")
      options.rounds = std::max(1, number);
    else if (name == "--batch")
      options.batches.push_back(std::clamp(number, 1, 64));
    else if (name == "--context")
      options.contexts.push_back(number);
    else
      Usage("unknown argument " + std::string(name));
  }
  if (options.model.empty()) Usage("no model");
  return options;
}

}  // namespace
}  // namespace tandem::engine

int main(int argc, char** argv) {
  const absl::Status status = tandem::engine::Measure(tandem::engine::ReadArguments(argc, argv));
  if (!status.ok()) std::fprintf(stderr, "engine_speed: %s\n", status.ToString().c_str());
  return status.ok() ? 0 : 1;
}
