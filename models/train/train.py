#!/usr/bin/python3
"""Builds models/tandem-demo.gguf: text, training, export, evaluation, model card.

    /usr/bin/python3 models/train/train.py --minutes 106

Each stage leaves a file in --work-dir and is skipped when that file is there, so an interrupted run goes on where it was.
`--only export` writes the model of the last checkpoint, `--only evaluate` measures it.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import random
import time

import numpy as np
import torch

import corpus
import evaluate
import export
import model
from tokenizer import Tokenizer, train_merges

# First the language in short windows; then plain copying, since until the model can look something up in what it has read,
# questions about stories teach it little, and copying teaches that in minutes; then everything, with more sums; at last
# nearly nothing but answers count, many about each story, then sums and facts again; and the windows grow to the whole
# context, so that long conversations work.
LATE = corpus.Mix(reading=36, telling=12, sums=36, tandem=14, talk=6, repeat=3, questions=9)
LAST = corpus.Mix(reading=46, telling=12, sums=44, tandem=9, talk=5, repeat=3, questions=16, plain=0.03)
SUMS = dataclasses.replace(LAST, reading=24, telling=10, sums=64, tandem=26, talk=6, repeat=2)
LANGUAGE_COUNTS = (0.0, 0.3, 1.0, 1.0)  # loss weight of padding, given text, told stories, answers
ANSWERS_COUNT = (0.0, 0.08, 0.3, 1.0)  # what happens next in a story is chance: its noise drowns what answers teach
PHASES = [  # window, share of the training, mix, loss weights
    (256, 0.18, corpus.Mix(parts=(1,)), LANGUAGE_COUNTS),
    (512, 0.10, corpus.Mix(), LANGUAGE_COUNTS),
    (256, 0.05, corpus.Mix(parts=(1,), repeat=100, questions=9), LANGUAGE_COUNTS),
    (512, 0.08, corpus.Mix(repeat=4, questions=9), LANGUAGE_COUNTS),
    (512, 0.17, LATE, LANGUAGE_COUNTS),
    (512, 0.31, LAST, ANSWERS_COUNT),
    (512, 0.08, SUMS, ANSWERS_COUNT),
    (model.Config.context, 0.03, dataclasses.replace(SUMS, parts=(2, 4, 6, 8, 10)), ANSWERS_COUNT),
]
DECAY_FROM = 0.5  # of the training
HERE = pathlib.Path(__file__).resolve().parent


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work-dir", type=pathlib.Path, default=pathlib.Path("build/train"))
    parser.add_argument("--output-dir", type=pathlib.Path, default=HERE.parent)
    parser.add_argument("--minutes", type=float, default=106, help="training ends by then, whatever the step")
    parser.add_argument("--tokens", type=float, default=14e6, help="tokens to train on")
    parser.add_argument("--batch-tokens", type=int, default=4096)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--float32", action="store_true", help="for processors that do not multiply bfloat16")
    parser.add_argument("--new-tokenizer", action="store_true", help="learn another vocabulary than the released one")
    parser.add_argument("--only", choices=("train", "export", "evaluate"))
    return parser.parse_args()


def tokenizer_for(args):
    """The released vocabulary (merges.json), or one learnt from the text as it is now."""
    path = args.work_dir / "merges.json"
    if not path.exists():
        if args.new_tokenizer:
            source = corpus.Corpus(args.seed)
            texts = ("".join(text for text, _ in corpus.render(source.document())) for _ in range(8000))
            merges = train_merges(texts, model.Config.vocab - 256 - 3)
        else:
            merges = json.loads((HERE / "merges.json").read_text())
        path.write_text(json.dumps(merges))
    return Tokenizer(json.loads(path.read_text()))


def pack_windows(tokenizer, source, window, count, mix):
    """`count` windows of `window` + 1 tokens with their loss weights and document numbers; the last document is cut."""
    tokens = np.zeros((count, window + 1), np.uint16)
    weights = np.zeros((count, window + 1), np.uint8)
    documents = np.zeros((count, window + 1), np.uint8)
    for row in range(count):
        filled = number = 0
        while filled <= window:
            number += 1
            for text, role in corpus.render(source.document(mix)):
                ids = tokenizer.encode(text)[: window + 1 - filled]
                span = slice(filled, filled + len(ids))
                tokens[row, span], weights[row, span], documents[row, span] = ids, role, number
                filled += len(ids)
    weights[:, 0] = 0
    weights[:, 1:][documents[:, 1:] != documents[:, :-1]] = 0  # nothing announces the next document
    return tokens, weights, documents


def windows_for(args, tokenizer):
    phases = []
    for index, (window, share, mix, _) in enumerate(PHASES):
        path = args.work_dir / f"windows{index}.npz"
        if not path.exists():
            count = int(args.tokens * share / window)
            arrays = pack_windows(tokenizer, corpus.Corpus(args.seed + 1 + index), window, count, mix)
            np.savez(path, *arrays)
        with np.load(path) as saved:
            phases.append([torch.from_numpy(saved[f"arr_{i}"].astype(np.int64 if i != 1 else np.float32)) for i in range(3)])
    return phases


def schedule(progress):
    """Warm up, hold, step down to 0.6, then fall in a straight line to nearly nothing."""
    if progress < DECAY_FROM:
        return min(1.0, max(0.01, progress / 0.01))
    return max(0.01, 0.6 * (1 - progress) / (1 - DECAY_FROM))


def train(args, tokenizer):
    torch.set_num_threads(args.threads)
    config = model.Config()
    dtype = torch.float32 if args.float32 else torch.bfloat16
    phases = windows_for(args, tokenizer)
    weights = model.initial_weights(config, args.seed)
    optimiser = model.Optimiser(weights)
    checkpoint = args.work_dir / "checkpoint.pt"
    steps = []  # (phase, first window, one past the last)
    for phase, (tokens, _, _) in enumerate(phases):
        size = max(1, args.batch_tokens // (tokens.shape[1] - 1))
        steps += [(phase, i, i + size) for i in range(0, len(tokens) - size + 1, size)]
    done, spent = 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint)
        weights, done, spent = state["weights"], state["done"], state["seconds"]
        optimiser.load(state["optimiser"])
    for w in weights.values():
        w.requires_grad_()
    seen = sum((b - a) * (phases[p][0].shape[1] - 1) for p, a, b in steps[:done])
    start, average, saved = time.time() - spent, None, time.time()
    print(f"{sum(w.numel() for w in weights.values())} parameters, {len(steps)} steps, {done} done", flush=True)
    while done < len(steps) and (time.time() - start) / 60 < args.minutes:
        progress = max(done / len(steps), (time.time() - start) / 60 / args.minutes)
        phase, first, last = steps[done]
        if phase < len(PHASES) - 1 and progress > sum(share for _, share, _, _ in PHASES[: phase + 1]):  # late: next phase
            done = next(i for i, s in enumerate(steps) if s[0] == phase + 1)
            continue
        tokens, loss_weights, documents = (array[first:last] for array in phases[phase])
        loss_weights = torch.tensor(PHASES[phase][3])[loss_weights.long()]
        loss = model.loss_of(weights, config, tokens, loss_weights, documents, dtype)
        loss.backward()
        optimiser.step(weights, schedule(progress), dtype=dtype)
        done += 1
        seen += tokens[:, 1:].numel()
        average = float(loss) if average is None else 0.95 * average + 0.05 * float(loss)
        seconds = time.time() - start
        if done % 20 == 0:
            print(f"step {done} tokens {seen} loss {average:.4f} rate {schedule(progress):.3f} {seen / seconds:.0f}/s {seconds / 60:.1f} min", flush=True)
        if time.time() - saved > 240 or done == len(steps) or seconds / 60 >= args.minutes:
            saved = time.time()
            state = {"weights": {n: w.detach() for n, w in weights.items()}, "optimiser": optimiser.state(), "done": done, "seen": seen, "seconds": seconds}
            torch.save(state, checkpoint.with_suffix(".tmp"))
            os.replace(checkpoint.with_suffix(".tmp"), checkpoint)


def main():
    args = parse_arguments()
    args.work_dir.mkdir(parents=True, exist_ok=True)
    random.seed(args.seed)
    torch.manual_seed(args.seed)
    tokenizer = tokenizer_for(args)
    if args.only in (None, "train"):
        train(args, tokenizer)
    state = torch.load(args.work_dir / "checkpoint.pt")
    config = model.Config()
    if args.only in (None, "export"):
        export.write_model(args.output_dir / "tandem-demo.gguf", state["weights"], config, tokenizer)
    if args.only in (None, "evaluate"):
        evaluate.write_reports(args.output_dir, state, config, tokenizer, args)


if __name__ == "__main__":
    main()
