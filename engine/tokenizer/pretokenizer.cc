#include "engine/tokenizer/pretokenizer.h"

#include <algorithm>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/base/nearest_name.h"
#include "engine/tokenizer/pretokenizer_patterns.h"
#include "engine/tokenizer/utf8.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

namespace tandem::engine {
namespace {

struct MatchDataDeleter {
  void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
};
// Cuts `text`, well-formed UTF-8, into three characters each, the first piece into what is left.
void SplitThrees(absl::string_view text, std::vector<absl::string_view>* out) {
  const auto starts_character = [](char c) { return (static_cast<uint8_t>(c) & 0xC0) != 0x80; };
  auto left = std::count_if(text.begin(), text.end(), starts_character);
  while (left > 0) {
    size_t bytes = 0;
    for (const auto after = (left - 1) / 3 * 3; left > after; --left) bytes += NextUtf8(text.substr(bytes)).bytes;
    out->push_back(text.substr(0, bytes));
    text.remove_prefix(bytes);
  }
}

using MatchData = std::unique_ptr<pcre2_match_data, MatchDataDeleter>;

}  // namespace

// One compiled expression. Immutable: PCRE2 keeps all state of a search in the match data.
class Pretokenizer::Pattern {
 public:
  static absl::StatusOr<std::unique_ptr<Pattern>> Compile(absl::string_view source) {
    int error = 0;
    PCRE2_SIZE offset = 0;
    pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(source.data()), source.size(),
                                     PCRE2_UTF | PCRE2_UCP | PCRE2_DOLLAR_ENDONLY, &error, &offset, nullptr);
    if (code == nullptr) {
      PCRE2_UCHAR message[256] = {};
      pcre2_get_error_message(error, message, sizeof(message));
      return absl::InternalError(absl::StrCat("pre-tokeniser pattern, offset ", offset, ": ",
                                              reinterpret_cast<const char*>(message), "; this is a bug in Tandem"));
    }
    // Without a just-in-time compiler in this build of PCRE2 the interpreter runs: slower, same matches.
    pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);
    return std::unique_ptr<Pattern>(new Pattern(code));
  }
  ~Pattern() { pcre2_code_free(code_); }
  Pattern(const Pattern&) = delete;
  Pattern& operator=(const Pattern&) = delete;

  MatchData NewMatchData() const { return MatchData(pcre2_match_data_create(1, nullptr)); }

  // Appends the matches in `word`, well-formed UTF-8, and the gaps between them to `out`. `threes`: see
  // PretokenizerRule::digits_from_the_right.
  void Split(absl::string_view word, bool threes, pcre2_match_data* data, std::vector<absl::string_view>* out) const {
    size_t done = 0;
    size_t search = 0;
    while (search < word.size()) {
      // A failure other than "no match" (a resource limit of PCRE2) ends the search too: the rest stays one word.
      if (pcre2_match(code_, reinterpret_cast<PCRE2_SPTR>(word.data()), word.size(), search, PCRE2_NO_UTF_CHECK, data,
                      nullptr) < 0) {
        break;
      }
      const PCRE2_SIZE* range = pcre2_get_ovector_pointer(data);
      const size_t begin = range[0], end = range[1];
      if (end <= begin) break;  // no pattern of ours matches the empty string
      if (begin > done) out->push_back(word.substr(done, begin - done));
      const absl::string_view match = word.substr(begin, end - begin);
      if (threes) {
        SplitThrees(match, out);
      } else {
        out->push_back(match);
      }
      done = search = end;
    }
    if (done < word.size()) out->push_back(word.substr(done));
  }

 private:
  explicit Pattern(pcre2_code* code) : code_(code) {}
  pcre2_code* const code_;
};

Pretokenizer::Pretokenizer() = default;
Pretokenizer::~Pretokenizer() = default;

absl::StatusOr<std::unique_ptr<Pretokenizer>> Pretokenizer::Create(absl::string_view name) {
  const PretokenizerRule* rule = FindPretokenizerRule(name);
  if (rule == nullptr) {
    return absl::UnimplementedError(absl::StrCat("tokenizer.ggml.pre is \"", name,
                                                 "\", which is not known; the nearest of ", KnownPretokenizers().size(),
                                                 " known names is \"", NearestName(name, KnownPretokenizers()), "\""));
  }
  std::unique_ptr<Pretokenizer> result(new Pretokenizer());
  result->digits_from_the_right_ = rule->digits_from_the_right;
  result->ignore_merges_ = rule->ignore_merges;
  result->default_add_bos_ = rule->default_add_bos;
  for (const absl::string_view source : rule->patterns) {
    auto pattern = Pattern::Compile(source);
    if (!pattern.ok()) return pattern.status();
    result->patterns_.push_back(*std::move(pattern));
  }
  return result;
}

std::vector<absl::string_view> Pretokenizer::Split(absl::string_view text) const {
  // Which words are well-formed UTF-8 and go through the patterns is decided here, so that PCRE2 need not check.
  std::vector<absl::string_view> result;
  std::vector<absl::string_view> words, next;
  while (!text.empty()) {
    const size_t valid = ValidUtf8Prefix(text);
    if (valid > 0) {
      words.assign(1, text.substr(0, valid));
      for (const auto& pattern : patterns_) {
        const bool threes = digits_from_the_right_ && pattern == patterns_.front();
        const MatchData data = pattern->NewMatchData();
        next.clear();
        for (const absl::string_view word : words) pattern->Split(word, threes, data.get(), &next);
        words.swap(next);
      }
      result.insert(result.end(), words.begin(), words.end());
      text.remove_prefix(valid);
    }
    size_t invalid = 0;
    while (invalid < text.size()) {
      const Utf8Step step = NextUtf8(text.substr(invalid));
      if (step.status == Utf8Status::kWhole) break;
      invalid += step.bytes;
    }
    if (invalid > 0) result.push_back(text.substr(0, invalid));
    text.remove_prefix(invalid);
  }
  return result;
}

}  // namespace tandem::engine
