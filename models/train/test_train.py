"""Runs in seconds and without PyTorch: /usr/bin/python3 -m unittest discover models/train"""

import pathlib
import struct
import sys
import tempfile
import unittest

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import corpus
import gguf_writer
import stories
import tokenizer


class TokenizerTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        source = corpus.Corpus(3)
        cls.texts = ["".join(text for text, _ in corpus.render(source.document())) for _ in range(300)]
        cls.tokenizer = tokenizer.Tokenizer(tokenizer.train_merges(cls.texts, 200))

    def test_any_text_comes_back(self):
        odd = ["", " ", "a\n\n b\t\r\n", "naïve 日本語 🙂", "it's 12345", "<|im_start|>user\nHi<|im_end|>\n", "".join(map(chr, range(1, 600)))]
        for text in self.texts + odd:
            self.assertEqual(self.tokenizer.decode(self.tokenizer.encode(text)), text)

    def test_digits_stand_alone(self):
        tokens = [self.tokenizer.tokens[i] for i in self.tokenizer.encode("1234 + 56")]
        self.assertEqual(tokens, ["1", "2", "3", "4", "Ġ+", "Ġ", "5", "6"] if "Ġ+" in self.tokenizer.ids else ["1", "2", "3", "4", "Ġ", "+", "Ġ", "5", "6"])

    def test_bytes_come_first_and_specials_last(self):
        self.assertEqual(self.tokenizer.tokens[0], "!")
        self.assertEqual(len({self.tokenizer.tokens[i] for i in range(256)}), 256)
        self.assertEqual(self.tokenizer.tokens[-3:], tokenizer.SPECIALS)

    def test_merges_follow_rank_not_position(self):
        ranked = tokenizer.Tokenizer([("b", "c"), ("a", "b")])
        self.assertEqual([ranked.tokens[i] for i in ranked.encode("abc")], ["a", "bc"])

    def test_the_most_frequent_pair_is_merged_first(self):
        self.assertEqual(tokenizer.train_merges(["aab aab ab"], 1), [("a", "b")])


class Q8Test(unittest.TestCase):
    def test_halves_go_to_the_even_neighbour(self):
        block = np.zeros(32, np.float32)
        block[:6] = [127, 0.5, 1.5, 2.5, -0.5, -1.5]
        scales, values = gguf_writer.quantise_q8_0(block)
        self.assertEqual(scales.tolist(), [1.0])
        self.assertEqual(values[0, :6].tolist(), [127, 0, 2, 2, 0, -2])

    def test_a_block_of_zeros_stays_zero(self):
        scales, values = gguf_writer.quantise_q8_0(np.zeros((2, 32)))
        self.assertFalse(scales.any() or values.any())

    def test_the_error_is_at_most_half_a_step(self):
        x = np.random.default_rng(0).normal(size=(16, 256)).astype(np.float32)
        scales, values = gguf_writer.quantise_q8_0(x)
        error = np.abs(gguf_writer.dequantise_q8_0(scales, values, x.shape) - x).reshape(-1, 32)
        self.assertTrue((error <= scales.astype(np.float32)[:, None] * 0.56).all())  # the float16 scale adds a little

    def test_a_block_is_34_bytes_scale_first(self):
        data = gguf_writer.q8_0_bytes(np.full((1, 32), 127, np.float32))
        self.assertEqual(data, struct.pack("<e", 1.0) + b"\x7f" * 32)


class GgufTest(unittest.TestCase):
    def test_tensor_data_is_aligned_and_shapes_are_reversed(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "m.gguf"
            tensors = {"v": np.arange(3, dtype=np.float32), "m": np.ones((2, 64), np.float32)}
            gguf_writer.write_gguf(path, [("k", gguf_writer.UINT32, 7), ("s", (gguf_writer.ARRAY, gguf_writer.STRING), ["a", "b"])], tensors)
            data = path.read_bytes()
        self.assertEqual(data[:24], b"GGUF" + struct.pack("<IQQ", 3, 2, 2))
        self.assertEqual(len(data) % 32, 0)
        self.assertIn(b"m" + struct.pack("<IQQIQ", 2, 64, 2, gguf_writer.TYPE_Q8_0, 32), data)
        self.assertEqual(np.frombuffer(data[-192:-180], "<f4").tolist(), [0, 1, 2])  # 32 bytes of v, then 4 blocks padded to 160


class CorpusTest(unittest.TestCase):
    def test_a_seed_gives_one_corpus(self):
        a, b = corpus.Corpus(11), corpus.Corpus(11)
        for _ in range(50):
            self.assertEqual(corpus.render(a.document()), corpus.render(b.document()))

    def test_training_and_held_out_sets_do_not_meet(self):
        training, held = corpus.Corpus(1), corpus.Corpus(2, held_instances=True, held_wording=True)
        keys, wordings, tested_keys, tested_wordings = set(), set(), set(), set()
        for _ in range(2500):
            for turn in training.conversation().turns:
                keys.add(corpus.digest(turn.key))
                wordings.add(corpus.digest(turn.wording))
            keys.update(map(corpus.digest, training.story(parts=3).keys))
        for _ in range(2500):
            for turns in ([held.sum()], held.reading(count=1), held.reading(count=3)):
                turn = turns[-1]
                tested_keys.add(corpus.digest(turn.key))
                tested_wordings.add(corpus.digest(turn.wording))
        self.assertGreater(len(tested_keys), 500)
        self.assertFalse(keys & tested_keys)
        self.assertFalse(wordings & tested_wordings)

    def test_every_list_of_wordings_leaves_some_for_training(self):
        lists = [*stories.QUESTIONS.values(), corpus.ADDITION, corpus.MULTIPLICATION, *(w for _, w in corpus.FACTS)]
        for wordings in lists:
            self.assertEqual(len(set(wordings)), len(wordings))
            self.assertGreaterEqual(len(wordings) - len(corpus.held_wordings(wordings)), 3)
            self.assertTrue(corpus.held_wordings(wordings))

    def test_wordings_for_training_alone_are_not_held_out_elsewhere(self):
        held = {w for wordings in (*stories.QUESTIONS.values(), corpus.ADDITION, corpus.SUBTRACTION, corpus.MULTIPLICATION) for w in corpus.held_wordings(wordings)}
        more = [*stories.MORE_QUESTIONS.values(), *corpus.MORE_SUMS.values()]
        self.assertLessEqual(set(stories.MORE_QUESTIONS), set(stories.QUESTIONS))
        for wordings in more:
            self.assertEqual(len(set(wordings)), len(wordings))
            self.assertFalse(set(wordings) & held)

    def test_what_was_asked_for_counts_in_a_told_story(self):
        turn = corpus.Turn("Tell me a story about Mia and a kite.", "Mia had a kite. Mia lost it.", "telling", "lost|Mia|kite", "")
        pieces = corpus.render(corpus.Document(turns=[turn]))
        self.assertEqual([text for text, role in pieces if role == corpus.ANSWER], ["Mia", " kite", " Mia"])
        self.assertIn(turn.answer + "<|im_end|>", "".join(text for text, _ in pieces))

    def test_no_two_facts_share_a_question(self):
        asked = [w.lower() for _, wordings in corpus.FACTS for w in wordings]
        self.assertEqual(sorted(a for a in set(asked) if asked.count(a) > 1), [])

    def test_sums_are_right(self):
        source = corpus.Corpus(4)
        for _ in range(2000):
            for kind, result in (("addition", lambda a, b: a + b), ("subtraction", lambda a, b: a - b), ("multiplication", lambda a, b: a * b)):
                turn = source.sum(kind=kind)
                a, b, c = (int(t.strip(".")) for t in turn.answer.split() if t.strip(".").isdigit())
                self.assertEqual(result(a, b), c)
                asked = [int("".join(d for d in t if d.isdigit())) for t in turn.question.replace("-", " ").replace("x", " ").replace("*", " ").replace("+", " ").split() if any(map(str.isdigit, t))]
                self.assertEqual(sorted(asked), sorted((a, b)))

    def test_an_answer_is_in_its_story(self):
        source = corpus.Corpus(6)
        for _ in range(300):
            story = source.story()
            for fact in story.facts:
                if fact.kind != "unknown":
                    for word in set(fact.short.strip(".").split()) - {"Because", "A", "An", "For", "With", "To"}:
                        self.assertIn(word.lower(), story.text.lower(), (fact, story.text))

    def test_a_held_product_has_its_mirror_image_in_training(self):
        held = [(a, b) for a in range(13) for b in range(13) if corpus.product_is_held(a, b)]
        self.assertTrue(held)
        self.assertFalse(any(corpus.product_is_held(b, a) for a, b in held))


if __name__ == "__main__":
    unittest.main()
