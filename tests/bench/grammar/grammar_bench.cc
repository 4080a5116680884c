// What a constraint costs a token, beside a decode step in the same run. For each constraint a document is tokenised
// with a real vocabulary and followed twice: the first time every mask is new, the second time all are known. Run:
//   build/bench/bin/grammar_bench VOCABULARY.gguf
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "coordinator/draw_guide.h"
#include "engine/gguf/gguf_file.h"
#include "engine/grammar/grammar.h"
#include "engine/sampling/sampler.h"
#include "engine/tokenizer/tokenizer.h"
#include "tests/support/stage_runner.h"
#include "tests/support/tiny_model.h"

namespace tandem {
namespace {

using engine::grammar::Grammar;
using engine::grammar::Matcher;
using engine::grammar::TokenMask;
using engine::grammar::TokenTrie;

double NowUs() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double, std::micro>(now).count();
}

struct Case {
  const char* name;
  bool schema;
  const char* constraint;
  const char* text;
};

const char kPeople[] =
    "[{\"name\": \"Ada Lovelace\", \"age\": 36, \"email\": \"ada@example.com\", \"tags\": [\"mathematics\", "
    "\"poetry\"]}, "
    "{\"name\": \"Zo\u00eb M\u00fcller-\u5c71\u7530\", \"age\": 27, \"email\": \"zoe.m@example.org\", \"tags\": []}, "
    "{\"name\": \"Charles Babbage \\u0026 friends\", \"age\": 79, \"email\": \"cb@difference.engine.org\", \"tags\": "
    "[\"engines\", \"a longer tag with several words in it\"]}]";

const Case kCases[] = {
    {"any JSON", true, "{}", kPeople},
    {"JSON schema", true,
     R"({"type":"array","items":{"type":"object","properties":{"name":{"type":"string"},"age":{"type":"integer","minimum":0,
     "maximum":150},"email":{"type":"string","format":"email"},"tags":{"type":"array","items":{"type":"string"}}},
     "required":["name","age","email","tags"]}})",
     kPeople},
    {"JSON schema, maxLength 200", true,
     R"({"type":"array","items":{"type":"object","properties":{"name":{"type":"string","maxLength":200},"age":{"type":"integer"},
     "email":{"type":"string","maxLength":200},"tags":{"type":"array","items":{"type":"string","maxLength":200}}},
     "required":["name","age","email","tags"]}})",
     kPeople},
    {"arithmetic (GBNF)", false,
     "root ::= e\ne ::= t ([-+] t)*\nt ::= f ([*/] f)*\nf ::= [0-9]+ (\".\" [0-9]+)? | \"(\" e \")\" | [a-z]+ \"(\" e "
     "\")\"\n",
     "(12+345*sin(6.78/(9-cos(10))))*(11.5-tan(12)/sqrt(13+14))-15*16/17.25+log(18*19)"},
};

struct Times {
  double mean_us = 0, max_us = 0;
  bool ok = true;
};

// Accepting each token, finding the next mask and its form on the wire.
Times Follow(const std::shared_ptr<Grammar>& grammar, const std::vector<int32_t>& tokens, bool strips_space,
             int32_t vocab) {
  Times times;
  auto matcher = Matcher::Create(grammar, strips_space);
  times.ok = matcher.ok();
  for (size_t i = 0; i < tokens.size() && times.ok; ++i) {
    const double begin = NowUs();
    times.ok = matcher->Accept(tokens[i]).ok();
    if (i + 1 < tokens.size()) coordinator::ToTokenSet(matcher->mask(), vocab);
    const double us = NowUs() - begin;
    times.mean_us += us / static_cast<double>(tokens.size());
    times.max_us = std::max(times.max_us, us);
  }
  return times;
}

double MedianUs(int runs, const std::function<void()>& work) {
  std::vector<double> times;
  for (int i = 0; i < runs; ++i) {
    const double begin = NowUs();
    work();
    times.push_back(NowUs() - begin);
  }
  std::nth_element(times.begin(), times.begin() + runs / 2, times.end());
  return times[static_cast<size_t>(runs) / 2];
}

// A decode step of a model of 8 layers of 1024 and this vocabulary, Q8_0, on one thread.
double DecodeUs(int32_t vocab) {
  const testing::TinyFile tiny = testing::ParseTinyModel({.layers = 8,
                                                          .hidden = 1024,
                                                          .ffn = 2816,
                                                          .heads = 16,
                                                          .kv_heads = 4,
                                                          .head_dim = 64,
                                                          .vocab_size = vocab,
                                                          .context = 512,
                                                          .type = engine::TensorType::kQ8_0,
                                                          .tied_head = true});
  auto runner = testing::StageRunner::Create(
      *tiny.file, {.kv_type = engine::KvType::kF16, .threads = 1, .page_tokens = 32, .num_pages = 16});
  if (!runner.ok()) return 0;
  const std::vector<int32_t> ids = {17};
  const std::vector<uint32_t> pages = (*runner)->PagesFrom(0, 200);
  const engine::SamplingParams greedy;
  engine::Step step;
  step.slices.push_back(
      {.position = 199, .tokens = ids, .pages = pages, .output = engine::SliceOutput::kSample, .sampling = &greedy});
  engine::StepResult result;
  return MedianUs(21, [&] { (void)(*runner)->Run(step, &result); });
}

// What the mask costs where the token is drawn, greedily and not.
void PrintDraws(int32_t vocab) {
  std::vector<float> logits(static_cast<size_t>(vocab));
  for (size_t i = 0; i < logits.size(); ++i) logits[i] = static_cast<float>((i * 2654435761u) >> 16 & 0xFFFF) * 1e-3f;
  TokenMask most((static_cast<size_t>(vocab) + 63) / 64, 0x7FFFFFFFFFFFFFFF);
  for (const float temperature : {0.0f, 0.8f}) {
    const engine::SamplingParams params = {.temperature = temperature, .top_k = 40};
    const double plain = MedianUs(51, [&] { (void)engine::Sample(logits, params, {}, 1); });
    const double masked = MedianUs(51, [&] { (void)engine::Sample(logits, params, {.allowed = most}, 1); });
    std::printf("draw at temperature %.1f: %.0f us, with a mask of most tokens %.0f us\n",
                static_cast<double>(temperature), plain, masked);
  }
}

int Main(const char* path) {
  auto file = engine::GgufFile::Open(path);
  if (!file.ok()) return std::fprintf(stderr, "%s\n", file.status().ToString().c_str()), 1;
  auto tokenizer = engine::Tokenizer::Create(**file);
  if (!tokenizer.ok()) return std::fprintf(stderr, "%s\n", tokenizer.status().ToString().c_str()), 1;
  const int32_t vocab = (*tokenizer)->vocab_size();
  double begin = NowUs();
  const auto trie = TokenTrie::Create(**tokenizer);
  std::printf("%d tokens; their trie: %d nodes, %.0f ms\n", vocab, trie->size(), (NowUs() - begin) * 1e-3);
  const double decode_us = DecodeUs(vocab);
  std::printf("decode step of the model: %.0f us\n", decode_us);
  PrintDraws(vocab);
  std::printf("%-28s %7s %10s | %9s %9s %7s | %9s %9s %7s\n", "constraint", "tokens", "compile us", "first us",
              "max us", "share", "again us", "max us", "share");
  for (const Case& c : kCases) {
    begin = NowUs();
    auto grammar = c.schema ? Grammar::FromJsonSchema(c.constraint, trie) : Grammar::FromGbnf(c.constraint, trie);
    const double compile_us = NowUs() - begin;
    if (!grammar.ok()) return std::fprintf(stderr, "%s\n", grammar.status().ToString().c_str()), 1;
    std::vector<int32_t> tokens = (*tokenizer)->Encode(c.text, {});
    const bool strips_space = (*tokenizer)->strips_leading_space();
    const Times first = Follow(*grammar, tokens, strips_space, vocab);
    const Times again = Follow(*grammar, tokens, strips_space, vocab);
    if (!first.ok || !again.ok) return std::fprintf(stderr, "%s: the text does not match\n", c.name), 1;
    std::printf("%-28s %7zu %10.0f | %9.1f %9.0f %6.2f%% | %9.1f %9.0f %6.2f%%\n", c.name, tokens.size(), compile_us,
                first.mean_us, first.max_us, 100 * first.mean_us / decode_us, again.mean_us, again.max_us,
                100 * again.mean_us / decode_us);
  }
  return 0;
}

}  // namespace
}  // namespace tandem

int main(int argc, char** argv) {
  if (argc != 2) return std::fprintf(stderr, "usage: grammar_bench VOCABULARY.gguf\n"), 2;
  return tandem::Main(argv[1]);
}
