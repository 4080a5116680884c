"""Byte-level BPE: training, encoding, decoding.

Text is cut at the special tokens, then by the pre-tokeniser (the pattern that GGUF calls `qwen2`: every digit is a piece
of its own), and the bytes of each piece are merged by rank. A byte is written as the printable character that GPT-2's
table gives it.
"""

import collections
import functools

import regex

PATTERN = regex.compile(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
SPECIAL_PATTERN = regex.compile("(" + "|".join(regex.escape(s) for s in SPECIALS) + ")")


def byte_characters():
    """The character that stands for each byte, in the order in which GPT-2's vocabulary lists the bytes."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)]
    table = {b: chr(b) for b in printable}
    for b in range(256):
        if b not in table:
            table[b] = chr(256 + len(table) - len(printable))
    return table


BYTE_TO_CHAR = byte_characters()
CHAR_TO_BYTE = {c: b for b, c in BYTE_TO_CHAR.items()}


def to_characters(piece):
    return tuple(BYTE_TO_CHAR[b] for b in piece.encode("utf-8"))


def apply_merge(word, pair):
    merged, i = [], 0
    while i < len(word):
        if i + 1 < len(word) and (word[i], word[i + 1]) == pair:
            merged.append(word[i] + word[i + 1])
            i += 2
        else:
            merged.append(word[i])
            i += 1
    return tuple(merged)


def train_merges(texts, count):
    """The `count` most useful merges: again and again the most frequent neighbouring pair (ties: the smaller pair)."""
    pieces = collections.Counter()
    for text in texts:
        for part in SPECIAL_PATTERN.split(text):
            if part not in SPECIALS:
                pieces.update(PATTERN.findall(part))
    words = [[to_characters(p), n] for p, n in pieces.items()]
    pairs, where = collections.Counter(), collections.defaultdict(set)

    def tally(index, sign):
        word, n = words[index]
        for pair in zip(word, word[1:]):
            pairs[pair] += sign * n
            where[pair].add(index)

    for index in range(len(words)):
        tally(index, 1)
    merges = []
    while len(merges) < count:
        best = min(pairs, key=lambda p: (-pairs[p], p))
        if pairs[best] < 2:
            break
        merges.append(best)
        for index in where.pop(best):
            tally(index, -1)
            words[index][0] = apply_merge(words[index][0], best)
            tally(index, 1)
        del pairs[best]
    return merges


class Tokenizer:
    def __init__(self, merges):
        self.merges = [tuple(m) for m in merges]
        self.tokens = list(BYTE_TO_CHAR.values()) + [a + b for a, b in self.merges] + SPECIALS
        assert len(set(self.tokens)) == len(self.tokens)
        self.ids = {t: i for i, t in enumerate(self.tokens)}
        self.ranks = {m: i for i, m in enumerate(self.merges)}
        self.special_ids = {s: self.ids[s] for s in SPECIALS}
        self.encode_piece = functools.lru_cache(1 << 18)(self.merge_piece)

    def merge_piece(self, piece):
        word = to_characters(piece)
        while len(word) > 1:
            best = min(zip(word, word[1:]), key=lambda p: self.ranks.get(p, 1 << 30))
            if best not in self.ranks:
                break
            word = apply_merge(word, best)
        return [self.ids[t] for t in word]

    def encode(self, text):
        ids = []
        for part in SPECIAL_PATTERN.split(text):
            if part in self.special_ids:
                ids.append(self.special_ids[part])
            else:
                for piece in PATTERN.findall(part):
                    ids += self.encode_piece(piece)
        return ids

    def decode(self, ids):
        data = b""
        for i in ids:
            token = self.tokens[i]
            data += token.encode() if token in self.special_ids else bytes(CHAR_TO_BYTE[c] for c in token)
        return data.decode("utf-8", errors="replace")
