#include "engine/tokenizer/pretokenizer_patterns.h"

#include <map>

#include "absl/strings/str_cat.h"

namespace tandem::engine {
namespace {

// Unicode white space. PCRE2's \s adds U+180E, which is none since Unicode 6.3.
constexpr char kSpace[] = R"(\p{White_Space})";
// A run of white space without its last character, which the next word takes along; at the end of the text all of it.
constexpr char kSpaceBeforeWord[] = R"(\p{White_Space}+(?!\P{White_Space}))";
constexpr char kLineBreaks[] = R"(\p{White_Space}*[\r\n]+)";

constexpr char kContractions[] = "'s|'t|'re|'ve|'m|'ll|'d";
constexpr char kAnyCaseContractions[] = "'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]";

constexpr char kDigit[] = R"(\p{N})";
constexpr char kUpToThreeDigits[] = R"(\p{N}{1,3})";
constexpr char kDigits[] = R"(\p{N}+)";
constexpr char kThreeAsciiDigits[] = "[0-9][0-9][0-9]";

// The letters with case that DeepSeek's first tokenizer lists.
constexpr char kDeepseekLetters[] =
    R"(\x{41}-\x{5A}\x{61}-\x{7A}\x{B5}\x{C0}-\x{D6}\x{D8}-\x{F6}\x{F8}-\x{1BA}\x{1BC}-\x{1BF}\x{1C4}-\x{293})"
    R"(\x{295}-\x{2AF}\x{370}-\x{373}\x{376}\x{377}\x{37B}-\x{37D}\x{37F}\x{386}\x{388}-\x{38A}\x{38C})"
    R"(\x{38E}-\x{3A1}\x{3A3}-\x{3F5}\x{3F7}-\x{481}\x{48A}-\x{52F}\x{531}-\x{556}\x{10A0}-\x{10C5})"
    R"(\x{13A0}-\x{13F5}\x{13F8}-\x{13FD}\x{1C90}-\x{1CBA}\x{1CBD}-\x{1CBF}\x{1D00}-\x{1D2B}\x{1D6B}-\x{1D77})"
    R"(\x{1D79}-\x{1D9A}\x{1E00}-\x{1F15}\x{1F18}-\x{1F1D}\x{1F20}-\x{1F45}\x{1F48}-\x{1F4D}\x{1F50}-\x{1F57})"
    R"(\x{1F59}\x{1F5B}\x{1F5D}\x{1F5F}-\x{1F7D}\x{1F80}-\x{1FB4}\x{1FB6}-\x{1FBC}\x{1FBE}\x{1FC2}-\x{1FC4})"
    R"(\x{1FC6}-\x{1FCC}\x{1FD0}-\x{1FD3}\x{1FD6}-\x{1FDB}\x{1FE0}-\x{1FEC}\x{1FF2}-\x{1FF4}\x{1FF6}-\x{1FFC})"
    R"(\x{2102}\x{2107}\x{210A}-\x{2113}\x{2115}\x{2119}-\x{211D}\x{2124}\x{2126}\x{2128}\x{212A}-\x{212D})"
    R"(\x{212F}-\x{2134}\x{2139}\x{213C}-\x{213F}\x{2145}-\x{2149}\x{214E}\x{2183}\x{2184}\x{2C00}-\x{2C7B})"
    R"(\x{2C7E}-\x{2CE4}\x{2CEB}-\x{2CEE}\x{2CF2}\x{2CF3}\x{A640}-\x{A66D}\x{A680}-\x{A69B}\x{A722}-\x{A76F})"
    R"(\x{A771}-\x{A787}\x{A78B}-\x{A78E}\x{AB70}-\x{ABBF}\x{FB00}-\x{FB06}\x{FB13}-\x{FB17}\x{FF21}-\x{FF3A})"
    R"(\x{FF41}-\x{FF5A}\x{10400}-\x{1044F}\x{104B0}-\x{104D3}\x{104D8}-\x{104FB}\x{10C80}-\x{10CB2})"
    R"(\x{10CC0}-\x{10CF2}\x{118A0}-\x{118DF}\x{1E900}-\x{1E943})";
constexpr char kDeepseekPunctuation[] = R"(!-/:-~\x{FF01}-\x{FF0F}\x{FF1A}-\x{FF5E}\x{2018}-\x{201F}\x{3000}-\x{3002})";
constexpr char kDeepseekHan[] = R"([\x{4E00}-\x{9FA5}\x{0800}-\x{4E00}\x{AC00}-\x{D7FF}]+)";
constexpr char kDeepseek3HanAndKana[] = R"([\x{4E00}-\x{9FA5}\x{3040}-\x{309F}\x{30A0}-\x{30FF}]+)";

std::string Gpt2() {
  return absl::StrCat(kContractions, R"(| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|)", kSpaceBeforeWord);
}

// Llama 3 and Qwen 2 differ in how many digits make a word.
std::string Llama3Like(absl::string_view digits) {
  return absl::StrCat(kAnyCaseContractions, R"(|[^\r\n\p{L}\p{N}]?\p{L}+|)", digits,
                      R"(| ?[^\p{White_Space}\p{L}\p{N}]+[\r\n]*|)", kLineBreaks, "|", kSpaceBeforeWord, "|", kSpace,
                      "+");
}

// Words in which lower case follows upper case once. GPT-4o lets a contraction follow, Tekken does not.
std::string CasedWords(absl::string_view suffix, absl::string_view digits) {
  constexpr char kUpper[] = R"([\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}])";
  constexpr char kLower[] = R"([\p{Ll}\p{Lm}\p{Lo}\p{M}])";
  constexpr char kBefore[] = R"([^\r\n\p{L}\p{N}]?)";
  return absl::StrCat(absl::StrCat(kBefore, kUpper, "*", kLower, "+", suffix, "|"),
                      absl::StrCat(kBefore, kUpper, "+", kLower, "*", suffix, "|"), digits,
                      R"(| ?[^\p{White_Space}\p{L}\p{N}]+[\r\n/]*|)", kLineBreaks, "|", kSpaceBeforeWord, "|", kSpace,
                      "+");
}

std::vector<std::string> DeepseekLlm() {
  return {R"([\r\n])", absl::StrCat(kSpace, "?[", kDeepseekLetters, "]+"),
          absl::StrCat(kSpace, "?[", kDeepseekPunctuation, "]+"),
          // White space at the end. The look-behind and the possessive repeat change no match, but spare the search
          // inside a long run of spaces, which would cost its length squared.
          absl::StrCat("(?<!", kSpace, ")", kSpace, "++$"), kDeepseekHan, kDigits};
}

std::vector<std::string> DeepseekCoder() {
  return {R"([\r\n])", absl::StrCat(kSpace, R"(?\p{L}+)"), absl::StrCat(kSpace, R"(?\p{P}+)"), kDeepseekHan, kDigit};
}

std::vector<std::string> Deepseek3() {
  constexpr char kWords[] =
      R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|)";
  return {kUpToThreeDigits, kDeepseek3HanAndKana,
          absl::StrCat(kWords, kLineBreaks, "|", kSpaceBeforeWord, "|", kSpace, "+")};
}

std::map<absl::string_view, PretokenizerRule> MakeRules() {
  const PretokenizerRule gpt2 = {{Gpt2()}};
  const PretokenizerRule single_digits = {{kDigit, Gpt2()}};
  const PretokenizerRule llama3_merging = {{Llama3Like(kUpToThreeDigits)}};
  const PretokenizerRule llama3 = {llama3_merging.patterns, /*ignore_merges=*/true, /*default_add_bos=*/true};
  const PretokenizerRule qwen2 = {{Llama3Like(kDigit)}};
  const PretokenizerRule gpt4o = {{CasedWords(absl::StrCat("(?:", kAnyCaseContractions, ")?"), kUpToThreeDigits)}};
  const PretokenizerRule tekken = {{CasedWords("", kDigit)}, /*ignore_merges=*/true, /*default_add_bos=*/true};
  return {
      {"gpt-2", gpt2},
      {"phi-2", gpt2},
      {"mpt", gpt2},
      {"olmo", gpt2},
      {"default", {{R"([\p{P}\$\+<=>\^~\|]+)", Gpt2(), kDigits, kThreeAsciiDigits}}},
      {"falcon", {{R"([\p{P}\$\+<=>\^~\|`]+)", Gpt2(), kThreeAsciiDigits}}},
      {"starcoder", single_digits},
      {"refact", single_digits},
      {"command-r", single_digits},
      {"smollm", single_digits},
      {"codeshell", single_digits},
      {"llama-bpe", llama3},
      {"llama3", llama3},
      {"llama-v3", llama3},
      {"dbrx", llama3_merging},
      {"smaug-bpe", llama3_merging},
      {"chatglm-bpe", llama3_merging},
      {"glm4", llama3_merging},
      {"qwen2", qwen2},
      {"stablelm2", qwen2},
      {"deepseek-r1-qwen", qwen2},
      {"deepseek-llm", {DeepseekLlm()}},
      {"deepseek-coder", {DeepseekCoder()}},
      {"deepseek-v3", {Deepseek3()}},
      {"gpt-4o", gpt4o},
      {"llama4", gpt4o},
      {"tekken", tekken},
  };
}

const std::map<absl::string_view, PretokenizerRule>& Rules() {
  static const auto* const rules = new std::map<absl::string_view, PretokenizerRule>(MakeRules());
  return *rules;
}

}  // namespace

const PretokenizerRule* FindPretokenizerRule(absl::string_view name) {
  const auto it = Rules().find(name);
  return it == Rules().end() ? nullptr : &it->second;
}

std::vector<absl::string_view> KnownPretokenizers() {
  std::vector<absl::string_view> names;
  for (const auto& [name, rule] : Rules()) names.push_back(name);
  return names;
}

}  // namespace tandem::engine
