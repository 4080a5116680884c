// What the tokenizer fuzzer and the unit tests do with an input: read a vocabulary and texts from it, make the
// tokenizer through a GGUF file, encode and decode. Any crash, sanitizer report or broken promise (abort) is a finding.
// Declared by its two users: tokenizer_fuzzer.cc, fuzz_replay_test.cc.
//
// The input is lines. The first names the kind and the pre-tokeniser: "llama", "bert", "t5" or "gpt2 qwen2". Then, by
// first character: a digit, that type's token; "m", a merge; "b", all single-byte tokens; "c", a precompiled charsmap;
// "f", flags, letters in lower case on and in upper case off; "t", a text to encode ("\n" inside is U+0001). Every
// other line is a text too.
#include <algorithm>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "engine/gguf/gguf_writer.h"
#include "engine/tokenizer/byte_alphabet.h"
#include "engine/tokenizer/tokenizer.h"
#include "engine/tokenizer/utf8.h"

namespace tandem::engine {
namespace {

void Require(bool promise) {
  if (!promise) std::abort();
}

struct Input {
  std::vector<std::string> tokens, merges, texts;
  std::vector<int32_t> types;
  std::vector<float> scores;
  std::string charsmap, flags;
  bool all_bytes = false;  // every byte has a token, so nothing gets lost

  void Add(std::string spelling, int32_t type) {
    scores.push_back(static_cast<float>(spelling.size()));
    tokens.push_back(std::move(spelling));
    types.push_back(type);
  }
};

void AddByteTokens(bool sentencepiece, Input* input) {
  constexpr char kHex[] = "0123456789ABCDEF";
  for (int byte = 0; byte < 256; ++byte) {
    const char c = static_cast<char>(byte);
    if (sentencepiece) {
      input->Add(std::string("<0x") + kHex[byte / 16] + kHex[byte % 16] + ">", 6);
    } else {
      input->Add(SpellBytes(absl::string_view(&c, 1)), 1);
    }
  }
  if (sentencepiece) input->Add("\xE2\x96\x81", 1);
  input->all_bytes = true;
}

Input ReadLines(const std::vector<absl::string_view>& lines, bool sentencepiece) {
  Input input;
  for (size_t i = 1; i < lines.size(); ++i) {
    const absl::string_view line = lines[i];
    if (line.empty()) continue;
    const std::string rest(line.substr(1));
    if (line[0] >= '0' && line[0] <= '9') {
      input.Add(rest, line[0] - '0');
    } else if (line[0] == 'm') {
      input.merges.push_back(rest);
    } else if (line[0] == 'c') {
      input.charsmap = rest;
    } else if (line[0] == 'f') {
      input.flags = rest;
    } else if (line[0] == 'b') {
      AddByteTokens(sentencepiece, &input);
    } else {
      input.texts.push_back(absl::StrReplaceAll(line[0] == 't' ? rest : line, {{"\x01", "\n"}}));
    }
  }
  return input;
}

// The flags of every kind, each by a letter.
void SetFlags(const std::string& flags, GgufWriter* writer) {
  constexpr std::pair<char, absl::string_view> kFlags[] = {
      {'p', "add_space_prefix"},     {'w', "remove_extra_whitespaces"},
      {'l', "normalizer.lowercase"}, {'a', "normalizer.strip_accents"},
      {'b', "add_bos_token"},        {'e', "add_eos_token"},
      {'s', "add_sep_token"}};
  for (const auto& [letter, name] : kFlags) {
    const bool on = flags.find(letter) != std::string::npos;
    if (on || flags.find(static_cast<char>(letter - 'a' + 'A')) != std::string::npos) {
      writer->SetBool(absl::StrCat("tokenizer.ggml.", name), on);
    }
  }
}

std::string Streamed(const Tokenizer& tokenizer, const std::vector<TokenId>& ids) {
  StreamDecoder decoder(tokenizer, /*at_text_start=*/true);
  std::string text;
  for (const TokenId id : ids) {
    const std::string part = decoder.Push(id);
    Require(ValidUtf8Prefix(part) == part.size());
    text += part;
  }
  text += decoder.Finish();
  return text;
}

void CheckText(const Tokenizer& tokenizer, const std::string& text, bool lossless) {
  for (const bool flags : {false, true}) {
    const std::vector<TokenId> ids = tokenizer.Encode(text, {.add_special = flags, .parse_special = flags});
    for (const TokenId id : ids) Require(id >= 0 && id < tokenizer.vocab_size());
    const std::string decoded = tokenizer.Decode(ids);
    const std::string streamed = Streamed(tokenizer, ids);
    if (ValidUtf8Prefix(decoded) == decoded.size()) Require(streamed == decoded);
    if (lossless && !flags) Require(decoded == text);
  }
}

}  // namespace

// True if the vocabulary was accepted.
bool FuzzTokenizer(absl::string_view bytes) {
  const std::vector<absl::string_view> lines = absl::StrSplit(bytes, '\n');
  const std::vector<std::string> head = absl::StrSplit(lines[0], ' ');
  const bool sentencepiece = head[0] == "llama";
  Input input = ReadLines(lines, sentencepiece);

  GgufWriter writer;
  writer.SetString("tokenizer.ggml.model", head[0]);
  if (head.size() > 1) writer.SetString("tokenizer.ggml.pre", head[1]);
  writer.SetStrings("tokenizer.ggml.tokens", input.tokens);
  writer.SetInt32s("tokenizer.ggml.token_type", input.types);
  writer.SetFloats("tokenizer.ggml.scores", input.scores);
  writer.SetStrings("tokenizer.ggml.merges", input.merges);
  writer.SetInt32("tokenizer.ggml.bos_token_id", 0);
  SetFlags(input.flags, &writer);
  if (!input.charsmap.empty()) {
    writer.SetInt32s("tokenizer.ggml.precompiled_charsmap",
                     std::vector<int32_t>(input.charsmap.begin(), input.charsmap.end()));
  }
  const std::vector<std::byte> file_bytes = writer.Serialize();
  const auto file = GgufFile::Parse(file_bytes);
  Require(file.ok());
  const auto tokenizer = Tokenizer::Create(**file);
  if (!tokenizer.ok()) return false;

  // User-defined tokens follow their own rules (a space after each, no escapes), so only plain vocabularies give every
  // text back; nor do those in which a token spells the escape of the space.
  const bool plain = std::all_of(input.types.begin(), input.types.end(), [](int32_t type) { return type != 4; });
  const bool keeps_all = sentencepiece || head[0] == "gpt2";
  for (const std::string& text : input.texts) {
    const bool has_escape = sentencepiece && text.find("\xE2\x96\x81") != std::string::npos;
    CheckText(**tokenizer, text, keeps_all && input.all_bytes && plain && !has_escape);
  }
  for (TokenId id = -1; id <= (*tokenizer)->vocab_size(); ++id) {
    (*tokenizer)->Piece(id);
    (*tokenizer)->Spelling(id);
  }
  return true;
}

}  // namespace tandem::engine
