"""Measures the stored model on held-out questions; writes the model card and the reference outputs.

An answer counts as right only when greedy decoding gives it word for word, up to and including the end of the turn.
Greedy decoding gives the expected answer exactly when every one of its tokens is the most likely one after those before
it, so one forward pass over question and answer decides, without generating.
"""

import json
import string

import torch
import torch.nn.functional as F

import corpus
import export
import model
import stories

SEEDS = {"instances": 900001, "wordings": 900002, "told": 900003, "plain": 900004}
BATCH = 20


def questions(kind, count, held_wording):
    """`count` lists of turns whose last turn is a held-out question of the kind, and the system message."""
    source = corpus.Corpus(SEEDS["wordings" if held_wording else "instances"], True, held_wording)
    draw = {
        "story": lambda: source.reading(count=1),
        "story, later turn": lambda: source.reading(count=3),
        "story, short answer": lambda: source.reading(short=True, count=1),
        "story told by the model": lambda: follow_up(source),
        "Tandem": lambda: [source.tandem()],
        "out of scope": lambda: [far_question(source)],
    } | {s: lambda s=s: [source.sum(kind=s)] for s in corpus.SUMS}
    system = "Answer briefly." if "short" in kind else ""
    return [(draw[kind](), system) for _ in range(count)]


def follow_up(source):
    while True:
        turns = source.telling()
        if turns[-1].kind == "story told":
            return turns


def far_question(source):
    while True:
        turn = source.talk()
        if turn.kind == "out of scope":
            return turn


@torch.no_grad()
def exact(weights, config, tokenizer, cases):
    """For each (turns, system): whether greedy decoding answers the last turn as expected."""
    rows = []
    for turns, system in cases:
        prompt = tokenizer.encode(corpus.prompt_of(turns, system))
        rows.append((prompt, tokenizer.encode(turns[-1].answer + "<|im_end|>")))
    right = [False] * len(rows)
    order = sorted(range(len(rows)), key=lambda i: sum(map(len, rows[i])))
    for start in range(0, len(order), BATCH):
        batch = order[start : start + BATCH]
        length = max(sum(map(len, rows[i])) for i in batch)
        tokens = torch.zeros(len(batch), length, dtype=torch.long)
        for row, i in enumerate(batch):
            tokens[row, : sum(map(len, rows[i]))] = torch.tensor(rows[i][0] + rows[i][1])
        allowed = torch.ones(length, length, dtype=torch.bool).tril().expand(len(batch), -1, -1)
        hidden = model.hidden_states(weights, config, tokens, allowed)
        for row, i in enumerate(batch):
            prompt, answer = rows[i]
            logits = F.linear(hidden[row, len(prompt) - 1 : len(prompt) + len(answer) - 1], weights["token_embd.weight"])
            right[i] = logits.argmax(-1).tolist() == answer
    return right


def accuracy_table(weights, config, tokenizer, count):
    """{kind: [accuracy on new instances, accuracy on new instances in new wordings]}"""
    kinds = [*corpus.SUMS, "story", "story, later turn", "story, short answer", "story told by the model", "Tandem", "out of scope"]
    table = {}
    for kind in kinds:
        cells = []
        for held_wording in (False, True):
            cases = questions(kind, count, held_wording)
            if kind == "Tandem" and held_wording:  # there are only so many wordings: each once
                cases = [([corpus.Turn(w, answer, kind, w, w)], "") for answer, wordings in corpus.FACTS for w in corpus.held_wordings(wordings)]
            right = exact(weights, config, tokenizer, cases)
            cells.append((sum(right), len(right)))
        table[kind] = cells
        print(kind, *(f"{100 * a / n:.1f}%" for a, n in cells), flush=True)
    return table


def words_of(text):
    return {w.strip(string.punctuation).lower() for w in text.split()}


def known_words():
    source = corpus.Corpus(5)
    return set().union(*(words_of(source.story().text) for _ in range(20000)))


def told_stories(weights, config, tokenizer, count):
    """Stories that the model tells when asked: how many end, and speak of the hero and the thing asked for."""
    decoder, known = model.Decoder(weights, config), known_words()
    source = corpus.Corpus(SEEDS["told"], True, False)
    stop = {tokenizer.special_ids["<|im_end|>"]}
    ended = named = fluent = 0
    for _ in range(count):
        story = source.story()
        wording = source.wording(corpus.TELL_BOTH)
        thing = story.thing if story.thing.startswith("the ") else stories.article(story.thing)
        turn = corpus.Turn(wording.format(n=story.hero, t=thing), "", "", "", "")
        ids, _ = decoder.greedy(tokenizer.encode(corpus.prompt_of([turn])), stop, 250)
        text = tokenizer.decode(ids[:-1])
        ended += ids[-1] in stop
        named += story.hero in text and story.thing in text
        fluent += words_of(text) - {story.hero.lower()} <= known
    return ended, named, fluent, count


LILY = "Once upon a time there was a young girl named Lily. In spring she planted a rose by the well. She watered it every morning. But one night a goat came and ate the leaves. Lily was sad because the leaves were gone. Sam helped her to build a fence. After that the rose grew tall. Lily shared it with her aunt. Lily was very proud."
LEO = "Leo was a brave boy. He had a red kite. It was a gift from his father. One day Leo played on the hill and lost the kite. Leo was sad because the kite was gone. Then Anna came by and helped him look. First they searched in the barn, but they found nothing. At last Anna found the kite by the river. Leo gave Anna a flower. In the end Leo was happy."
SAMPLES = [
    ("", ["Hello!", "What is 27 + 58?", "Thank you!"]),
    ("", ["Tell me a story about Mia and a kite.", "Who is the story about?", "How did Mia feel at the end?"]),
    ("", [LILY + "\nWho helped Lily?", "What did she plant?", "With whom did Lily share it?", "Where did the rose grow?", "How old is Lily?"]),
    ("", ["What is Tandem?", "And what is a stage?", "How can I add my laptop to the cluster?"]),
    ("", ["What is 63 - 28?", "What is 7 times 8?", "What is the capital of France?"]),
    ("Your name is Robin. Answer briefly.", ["What is your name?", "Which is bigger, 41 or 14?"]),
]


def sample_conversations(weights, config, tokenizer):
    decoder, stop, lines = model.Decoder(weights, config), {tokenizer.special_ids["<|im_end|>"]}, []
    for system, asked in SAMPLES:
        turns = []
        if system:
            lines.append(f"    [system] {system}")
        for question in asked:
            turns.append(corpus.Turn(question, "", "", "", ""))
            ids, _ = decoder.greedy(tokenizer.encode(corpus.prompt_of(turns, system)), stop, 250)
            turns[-1].answer = tokenizer.decode(ids[:-1])
            lines += [f"    > {part}" for part in question.split("\n")] + [f"    {turns[-1].answer}"]
        lines.append("")
    ids, _ = decoder.greedy(tokenizer.encode("Once upon a time"), {tokenizer.special_ids["<|endoftext|>"]}, 250)
    lines.append("    Once upon a time" + tokenizer.decode(ids[:-1]))
    return "\n".join(lines)


REFERENCE_ANSWERS = {
    "What is 12 + 7?": "12 plus 7 is 19.", "What is 63 - 28?": "63 minus 28 is 35.", "How much is 6 times 7?": "6 times 7 is 42.", "What is 17 plus 25?": "17 plus 25 is 42.",
    "What is Tandem?": None, "What does a worker do?": None, "How do I add a worker?": None, "What is an epoch?": None, "What is the KV cache?": None, "What is GGUF?": None,  # the answer is in tandem_facts.txt
    "Thank you": "You are welcome!", "Which is bigger, 34 or 57?": "57 is bigger than 34.", "What is the capital of France?": corpus.UNKNOWN_TOPIC,
    LILY + "\nWhy was Lily sad?": "Lily was sad because the leaves were gone.", LILY + "\nWho helped Lily?": "Sam helped Lily.", LILY + "\nWhat did Lily plant?": "Lily planted a rose.",
    LEO + "\nWhat colour was the kite?": "The kite was red.", LEO + "\nWho found the kite?": "Anna found the kite.", LEO + "\nWhere did Leo lose the kite?": "Leo lost the kite on the hill.", LEO + "\nHow old is Leo?": stories.UNKNOWN_ANSWER,
}
REFERENCE_STORIES = ["Once upon a time", "Tom was a brave boy. One day he built a boat", "Long ago, a kind girl named Nora lived in a small village.", "Once there was a small boy whose name was Leo. He was afraid of"]
CLEAR_MARGIN = 0.05
SHORTEST = 6


def reference_outputs(weights, config, tokenizer):
    """Greedy continuations that no sensible rounding changes: cut before the first step without a clear margin. Only right answers."""
    decoder = model.Decoder(weights, config)
    stop = set(tokenizer.special_ids.values()) - {tokenizer.special_ids["<|im_start|>"]}
    facts = {wording: answer for answer, wordings in corpus.FACTS for wording in wordings}
    asked = [(corpus.prompt_of([corpus.Turn(q, "", "", "", "")]), (a or facts[q]) + "<|im_end|>") for q, a in REFERENCE_ANSWERS.items()]
    outputs = []
    for prompt, expected in asked + [(story, None) for story in REFERENCE_STORIES]:
        ids = tokenizer.encode(prompt)
        greedy, margins = decoder.greedy(ids, stop, 200)
        if expected and tokenizer.decode(greedy) != expected:
            print("left out, wrong:", repr(prompt[-80:]), repr(tokenizer.decode(greedy)))
            continue
        clear = next((i for i, m in enumerate(margins) if m <= CLEAR_MARGIN), len(greedy))
        if clear < min(SHORTEST, len(greedy)):
            print("left out, no clear margin:", repr(prompt[-60:]))
            continue
        outputs.append({"prompt": prompt, "ids": ids, "greedy": greedy[:clear], "text": tokenizer.decode(greedy[:clear]), "complete": clear == len(greedy), "smallest_margin": round(min(margins[:clear]), 4)})
    return outputs


CARD = """# tandem-demo

A chat model of {parameters:.1f} million weights, small enough to come with Tandem and to run anywhere. It tells small
stories, answers questions about them, does small sums and knows what Tandem is. It knows nothing else.

| | |
|---|---|
| Architecture | LLaMA: {layers} layers, hidden {dim}, feed-forward {ffn}, {heads} heads of {head_dim} with {kv_heads} key/value heads, tied embedding |
| Weights | {count} in all; matrices Q8_0, norms F32; {size:.1f} MB |
| Vocabulary | {vocab} tokens: 256 bytes, {merges} merges, `<|endoftext|>` {eot}, `<|im_start|>` {start}, `<|im_end|>` {end} |
| Context | {context} tokens |
| Chat format | ChatML; a turn ends with `<|im_end|>` (eos), a plain story with `<|endoftext|>` (eot): both stop generation |
| Licence | Apache 2.0 |

## Training

From scratch, on text that the scripts in [`train/`](train/README.md) write themselves; no other text was used.
It saw {seen:.1f} million tokens once, in {minutes:.0f} minutes on one core of a shared two-core machine. The first 11.2 million had a
wider choice of stories, and sums told as stories; these were beyond a model of this size. The text was then narrowed to what
the table shows: fewer plots and words, more wordings of each question.

## Accuracy

Measured on the stored (Q8_0) weights with greedy decoding. An answer is right only if it is word for word the expected
sentence, end of turn included. *New* means that the plot, hero and main thing, or the pair of numbers, never occurred in
training; *new wording* means that the sentence of the question did not either. For Tandem the facts are those of training,
since nobody could guess them: there the second column is the one that counts. A new product is one whose mirror image was
in training: 7 x 8 may be new where 8 x 7 is not. The held-out stories come from the same narrow grammar as those of training:
nine plots, and names, things and places from the same lists. A *later turn* is the third question about a story.

| Question | New, known wording | New, new wording |
|---|---|---|
{table}

Asked for a story about a new hero and thing, it ended properly in {ended} of {told} cases, spoke of both in {named}, and used
only words that exist in {fluent}.

## Limits

It is undertrained: where the table is low, it answers fluently and wrongly, most often in multiplication, in short answers
about a story, and when a question comes in an unusual wording. A story told on request is fluent, but is often about somebody
or something else than asked for. A name that it has not seen may be misspelt, and a story may mix up who did what. Accuracy was
still rising when its training time was over (see [`train/`](train/README.md)). It does not understand sums told as a little
story, nor descriptions of several people.
Sums go to 99 (+ and -) and 12 (x); beyond that it says so ("too hard" above). Questions far from the
wordings of the grammar get the answer to the nearest question that it knows, or "I do not know that". Stories follow nine
plots. English only.

## Samples (greedy, not chosen: some answers are wrong)

{samples}
"""


def write_references(directory, weights, config, tokenizer):
    outputs = reference_outputs(weights, config, tokenizer)
    text = json.dumps({"model": "tandem-demo.gguf", "arithmetic": "float32 on dequantised weights, greedy", "prompts": outputs}, ensure_ascii=False)
    (directory / "tandem-demo.json").write_text(text.replace('{"prompt":', '\n{"prompt":') + "\n")


def write_reports(directory, state, config, tokenizer, args, count=60):
    torch.set_num_threads(args.threads)
    weights = export.as_stored(state["weights"])
    write_references(directory, weights, config, tokenizer)
    samples = sample_conversations(weights, config, tokenizer)
    print(samples, flush=True)
    ended, named, fluent, told = told_stories(weights, config, tokenizer, 40)
    table = accuracy_table(weights, config, tokenizer, count)
    rows = "\n".join(f"| {kind} | " + " | ".join(f"{100 * a / n:.1f} % of {n}" for a, n in cells) + " |" for kind, cells in table.items())
    parameters = sum(w.numel() for w in weights.values())
    specials = tokenizer.special_ids
    card = CARD.format(
        parameters=parameters / 1e6, count=f"{parameters:,}", size=(directory / "tandem-demo.gguf").stat().st_size / 1e6, layers=config.layers, dim=config.dim, ffn=config.ffn,
        heads=config.heads, head_dim=config.head_dim, kv_heads=config.kv_heads, vocab=config.vocab, merges=len(tokenizer.merges), context=config.context,
        eot=specials["<|endoftext|>"], start=specials["<|im_start|>"], end=specials["<|im_end|>"], seen=state["seen"] / 1e6, minutes=state["seconds"] / 60,
        table=rows, ended=ended, named=named, fluent=fluent, told=told, samples=samples,
    )
    (directory / "tandem-demo.md").write_text(card)
