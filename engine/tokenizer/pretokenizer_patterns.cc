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

// Llama 3, Qwen 2 and their kin differ in how many digits make a word and in what counts as a letter.
std::string Llama3Like(absl::string_view digits, absl::string_view letters = R"(\p{L})") {
  return absl::StrCat(absl::StrCat(kAnyCaseContractions, R"(|[^\r\n\p{L}\p{N}]?[)", letters, "]+|", digits),
                      absl::StrCat(R"(| ?[^\p{White_Space}\p{N})", letters, R"(]+[\r\n]*|)"), kLineBreaks, "|",
                      kSpaceBeforeWord, "|", kSpace, "+");
}

// Words in which lower case follows upper case once. `suffix`: what may follow a word; `line_signs`: what may follow
// other signs, beside line breaks.
std::string CasedWordsOf(absl::string_view upper, absl::string_view lower, absl::string_view suffix,
                         absl::string_view digits, absl::string_view line_signs) {
  constexpr char kBefore[] = R"([^\r\n\p{L}\p{N}]?)";
  return absl::StrCat(absl::StrCat(kBefore, upper, "*", lower, "+", suffix, "|"),
                      absl::StrCat(kBefore, upper, "+", lower, "*", suffix, "|"), digits,
                      absl::StrCat(R"(| ?[^\p{White_Space}\p{L}\p{N}]+[\r\n)", line_signs, "]*|"), kLineBreaks, "|",
                      absl::StrCat(kSpaceBeforeWord, "|", kSpace, "+"));
}

// GPT-4o lets a contraction follow a word, Tekken does not.
constexpr char kMaybeContraction[] = "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?";
std::string CasedWords(absl::string_view suffix, absl::string_view digits, absl::string_view line_signs) {
  return CasedWordsOf(R"([\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}])", R"([\p{Ll}\p{Lm}\p{Lo}\p{M}])", suffix, digits, line_signs);
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

// Words with the marks that belong to their letters, or with one ASCII sign in front.
std::string MarkedWords(absl::string_view after_signs) {
  constexpr char kWords[] =
      R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+)";
  return absl::StrCat(kWords, after_signs, "|", kSpaceBeforeWord, "|", kSpace, "+");
}

std::vector<std::string> Deepseek3() {
  return {kUpToThreeDigits, kDeepseek3HanAndKana, MarkedWords(absl::StrCat(R"([\r\n]*|)", kLineBreaks))};
}

std::vector<std::string> Spark25() {
  return {kUpToThreeDigits, kDeepseek3HanAndKana, MarkedWords(R"(|[\r\n])"), kDigit};
}

std::vector<std::string> Afmoe() {
  constexpr char kAsian[] =
      R"([\x{4E00}-\x{9FFF}\x{3400}-\x{4DBF}\x{F900}-\x{FAFF}\x{3040}-\x{30FF}\x{FF65}-\x{FF9F}\x{2F00}-\x{2FDF})"
      R"(\x{0E40}-\x{0EFF}\x{1780}-\x{17FF}\x{1000}-\x{109F}\x{AA60}-\x{AA7F}\x{A9E0}-\x{A9FF}\x{AC00}-\x{D7AF})"
      R"(\x{1100}-\x{11FF}]+)";
  return {kDigits, kAsian, MarkedWords(absl::StrCat(R"([\r\n]*|)", kLineBreaks))};
}

std::vector<std::string> Youtu() {
  return {R"([\x{AC00}-\x{D7A3}\x{3131}-\x{318E}]+|)"
          R"([\x{FF01}\x{2026}\x{201C}\x{201D}\x{2018}\x{2019}\x{2014}\x{FF1A}\x{FF1B}\x{FF0C}\x{3001}-\x{303F})"
          R"(\x{FE30}-\x{FE4F}]+|[\x{3105}-\x{312F}]+|[\x{4E00}-\x{9FA5}\x{3040}-\x{309F}\x{30A0}-\x{30FF}]+)",
          CasedWords(kMaybeContraction, kDigit, "/")};
}

// Kimi K2: words of Han apart from words with case.
std::string KimiK2() {
  constexpr char kUpper[] = R"([^\p{Ll}\p{N}\p{P}\p{S}\p{Z}\p{C}\p{Han}])";        // Lu Lt Lm Lo M, but no Han
  constexpr char kLower[] = R"([^\p{Lu}\p{Lt}\p{N}\p{P}\p{S}\p{Z}\p{C}\p{Han}])";  // Ll Lm Lo M, but no Han
  return absl::StrCat(R"(\p{Han}+|)", CasedWordsOf(kUpper, kLower, kMaybeContraction, kUpToThreeDigits, ""));
}

// White space is cut into runs of 512, 256 ... 4, and then 2 or 1. The second expression leaves every other word whole.
std::vector<std::string> Jais2() {
  return {Llama3Like(kUpToThreeDigits),
          R"(\A(?:\p{White_Space}*[\r\n]+|\p{White_Space}*+\P{White_Space}(?s:.*))\z|\p{White_Space}{512}|)"
          R"(\p{White_Space}{256}|\p{White_Space}{128}|\p{White_Space}{64}|\p{White_Space}{32}|\p{White_Space}{16}|)"
          R"(\p{White_Space}{8}|\p{White_Space}{4}|\p{White_Space}{1,2})"};
}

// Image and sentinel tokens, single digits and signs, then GPT-2's words.
std::vector<std::string> Chameleon() {
  return {"<sentinel:[0-9]+>", "IMGIMG[A-I]{1,4}Z", R"([\t\n]|    |  )", kDigit, R"([\p{P}!-/:-@\[-`{-~])", Gpt2()};
}

// EXAONE MoE: a word may hold single spaces before letters. Nothing follows it, so its repeats may be possessive, which
// keeps PCRE2's stack small.
std::string ExaoneMoe() {
  return absl::StrCat(kAnyCaseContractions, R"(|[^\r\n\p{L}\p{N}]?\p{L}\p{M}*+(?: ?\p{L}\p{M}*+)*+|)", kDigit,
                      R"(| ?[^\p{White_Space}\p{L}\p{N}]+[\r\n/]?|\p{White_Space}*[\r\n]|)", kSpaceBeforeWord, "|",
                      kSpace, "+");
}

struct Named {
  PretokenizerRule rule;
  std::vector<absl::string_view> names;
};

std::vector<Named> NamedRules() {
  const std::vector<std::string> llama3 = {Llama3Like(kUpToThreeDigits)};
  const std::vector<std::string> gpt4o = {CasedWords(kMaybeContraction, kUpToThreeDigits, "/")};
  constexpr char kNoSentenceSigns[] =
      R"( ?[^(\p{White_Space}|.,!?\x{2026}\x{3002}\x{FF0C}\x{3001}\x{0964}\x{06D4}\x{060C})]+)";
  constexpr char kSeedCoderSigns[] = R"(| ?[^\p{White_Space}\p{L}\p{N}\r\n]+|)";
  return {
      {{.patterns = {R"([\p{P}\$\+<=>\^~\|]+)", Gpt2(), kDigits, kThreeAsciiDigits}}, {"default"}},
      {{.patterns = {Gpt2()}},
       {"gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "granite-docling", "exaone4", "jina-es", "jina-de",
        "jina-v1-en", "jina-v2-es", "jina-v2-de", "jina-v2-code", "roberta-bpe", "gigachat", "a.x-4.0", "mellum",
        "modern-bert"}},
      {{.patterns = {kDigit, Gpt2()}},
       {"starcoder", "refact", "command-r", "smollm", "codeshell", "exaone", "minerva-7b", "mellum2"}},
      {{.patterns = {R"([\p{P}\$\+<=>\^~\|`]+)", Gpt2(), kThreeAsciiDigits}}, {"falcon"}},
      {{.patterns = llama3, .ignore_merges = true, .default_add_bos = true},
       {"llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano"}},
      {{.patterns = llama3}, {"dbrx", "smaug-bpe", "chatglm-bpe", "glm4"}},
      {{.patterns = {kUpToThreeDigits, Llama3Like(kDigits)}, .ignore_merges = true}, {"minicpm5"}},
      {{.patterns = {Llama3Like(kDigit)}},
       {"qwen2", "stablelm2", "deepseek-r1-qwen", "kormo", "f2llmv2", "megrez", "hunyuan", "grok-2", "solar-open"}},
      {{.patterns = {Llama3Like(kDigit, R"(\p{L}\p{M})")}}, {"qwen35"}},
      {{.patterns = {R"([^\n]+|\n+)", Llama3Like(kDigit)}}, {"laguna"}},
      {{.patterns = {absl::StrCat(R"([^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\p{White_Space}\p{L}\p{N}]+[\r\n]*|)",
                                  kLineBreaks, "|", kSpaceBeforeWord, "|", kSpace, "+")}},
       {"ufakzeka"}},
      {{.patterns = {absl::StrCat(kAnyCaseContractions, R"(|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N})", kSeedCoderSigns,
                                  kLineBreaks, "|", kSpaceBeforeWord, "|", kSpace, "+")}},
       {"seed-coder"}},
      {{.patterns = {absl::StrCat("'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])",
                                  R"(|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\p{White_Space}\p{L}\p{N}]++[\r\n]*|)",
                                  R"(\p{White_Space}*[\r\n]|)", kSpaceBeforeWord, "|", kSpace, "+")}},
       {"bailingmoe", "bailingmoe2", "llada-moe"}},
      {{.patterns = {ExaoneMoe()}}, {"exaone-moe"}},
      {{.patterns = Jais2()}, {"jais-2"}},
      {{.patterns = DeepseekLlm()}, {"deepseek-llm"}},
      {{.patterns = DeepseekCoder()}, {"deepseek-coder"}},
      {{.patterns = Deepseek3()}, {"deepseek-v3", "hunyuan-dense", "hy_v4", "joyai-llm"}},
      {{.patterns = Spark25()}, {"spark2_5"}},
      {{.patterns = gpt4o}, {"gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"}},
      {{.patterns = gpt4o, .ignore_merges = true}, {"granite-embed-multi-97m"}},
      {{.patterns = {CasedWords("", kDigit, "/")}, .ignore_merges = true, .default_add_bos = true}, {"tekken"}},
      {{.patterns = Youtu(), .ignore_merges = true}, {"youtu"}},
      {{.patterns = {KimiK2()}}, {"kimi-k2"}},
      {{.patterns = Chameleon(), .default_add_bos = true}, {"chameleon"}},
      {{.patterns = {kNoSentenceSigns}}, {"poro-chat", "bloom", "gpt3-finnish"}},
      {{.patterns = {kNoSentenceSigns, kDigit}}, {"viking"}},
      {{.patterns = {kDigits}, .digits_from_the_right = true}, {"superbpe"}},
      {{.patterns = Afmoe(), .digits_from_the_right = true}, {"afmoe"}},
      // Digits up to the end of a word; the look-behind spares the search inside of a run.
      {{.patterns = {R"((?<!\d)\d++\b)", gpt4o[0]}, .digits_from_the_right = true}, {"tiny_aya", "cohere2moe"}},
  };
}

const std::map<absl::string_view, PretokenizerRule>& Rules() {
  static const auto* const rules = [] {
    auto* const by_name = new std::map<absl::string_view, PretokenizerRule>;
    for (const Named& named : NamedRules()) {
      for (const absl::string_view name : named.names) by_name->try_emplace(name, named.rule);
    }
    return by_name;
  }();
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
