"""Whole clusters of real processes, each worker on one core: what a second machine gives.

    cmake --preset bench && cmake --build build/bench --target tandem tandem-coordinator tandem-worker pipeline_clients pipeline_simulate
    python3 tests/bench/pipeline/run.py [--only prefill,decode16,decode1,link,prefix,simulate,soak] [--minutes 10] [--json]

prefill   seconds to the first token of a long prompt on one stage over those on two
decode16  tokens a second of 16 clients on two stages over those on one, and how much of the time each stage computes
decode1   tokens a second of one client on two stages over those of one process with all layers
link      time of a token of one client, the second stage behind an emulated link, over compute + wire + twice the delay
prefix    seconds to the first token of a second request that shares a long prefix with the first, over the first's
simulate  figures of two stages in virtual time over those measured: the scheduler with stages whose costs were measured before
soak      64 clients for some minutes: errors, answers that differ from those a request gets alone, resident memory

Speculation is off. Figures are medians of --rounds runs, one kind after the other in turn; ratios are of medians. Clusters run side by side,
and all but one rest. The last column is what is aimed at. link needs the right to make network namespaces.
"""

import argparse
import contextlib
import functools
import json
import pathlib
import random
import statistics
import subprocess
import sys
import threading
import time

from clusters import ROOT, Cluster, decode_alone, hidden_size, random_ids
from simulation import StageCosts
from with_network import Network, NoRights

DELAY_MS, RATE_GBIT = 0.25, 1
SOAK_CLIENTS, SOAK_REQUESTS = 64, 16


class Report:
    def __init__(self):
        self.values = {}

    def add(self, name, value, unit="", aim=""):
        self.values[name] = value
        shown = f"{value:.3g}" if isinstance(value, float) else str(value)
        print(f"{name:55} {shown:>12} {unit:10} {aim}", file=sys.stderr, flush=True)


class Clusters:
    """Started when a part first wants them."""

    def __init__(self, options, stack):
        self.options, self.stack = options, stack

    @functools.cached_property
    def one(self):
        return self.stack.enter_context(Cluster(self.options, self.options.cores[:1]))

    @functools.cached_property
    def two(self):
        return self.stack.enter_context(Cluster(self.options, self.options.cores))


def spread(values):
    return f"of {min(values):.3g} to {max(values):.3g}"


def prefill(options, clusters, rng, report):
    one, two = clusters.one, clusters.two
    seconds = {one: [], two: []}
    for _ in range(options.rounds):
        for cluster in (one, two):
            seconds[cluster] += cluster.run([[(random_ids(rng, options.prompt), 1)]]).first_token_s()
    medians = [statistics.median(seconds[cluster]) for cluster in (one, two)]
    for name, cluster, median in zip(("one stage", "two stages"), (one, two), medians):
        report.add(f"prefill: {options.prompt} tokens, {name}", options.prompt / median, "tokens/s", spread([options.prompt / s for s in seconds[cluster]]))
    report.add("prefill: two stages over one", medians[0] / medians[1], "", ">= 1.85")


def steady(answers):
    """The time in which all answers were under way."""
    return max(answer["times"][0] for answer in answers.answers), min(answer["times"][-1] for answer in answers.answers)


def decode16(options, clusters, rng, report):
    one, two = clusters.one, clusters.two
    rates, shares, sizes = {one: [], two: []}, {one: [], two: []}, {one: [], two: []}
    for _ in range(options.rounds):
        for cluster in (one, two):
            answers = cluster.run([[(random_ids(rng, 16), options.tokens)] for _ in range(16)])
            rate, stages = answers.between(*steady(answers))
            rates[cluster].append(rate)
            shares[cluster].append(stages)
            sizes[cluster] += [step["decode"] for step in answers.steps if step["decode"] and not step["prefill"]]
    for name, cluster in (("one stage", one), ("two stages", two)):
        report.add(f"decode16: {name}", statistics.median(rates[cluster]), "tokens/s", spread(rates[cluster]))
        report.add(f"decode16: {name}, a step decodes", statistics.mean(sizes[cluster]), "tokens")
        for stage, column in enumerate(zip(*shares[cluster])):
            report.add(f"decode16: {name}, stage {stage} computes", statistics.median(column), "of the time", ">= 0.95" if cluster is two else "")
    report.add("decode16: two stages over one", statistics.median(rates[two]) / statistics.median(rates[one]), "", ">= 1.9")


def decode_rate(answers):
    times = answers.answers[0]["times"]
    return (len(times) - 1) / (times[-1] - times[0])


def decode1(options, clusters, rng, report):
    rates, beside = {"one process": [], "one worker": [], "two workers": []}, []
    for _ in range(options.rounds):
        rates["one process"].append(decode_alone(options, options.cores[0], random_ids(rng, 16), options.tokens))
        for name, cluster in (("one worker", clusters.one), ("two workers", clusters.two)):
            answers = cluster.run([[(random_ids(rng, 16), options.tokens)]])
            rates[name].append(decode_rate(answers))
        begin, end = steady(answers)
        steps = [step for step in answers.steps if begin < step["end"] <= end]
        beside.append(((end - begin) - sum(sum(step["compute"]) for step in steps)) / len(steps))
    for name, values in rates.items():
        report.add(f"decode1: {name}", statistics.median(values), "tokens/s", spread(values))
    report.add("decode1: two workers, a token beside computing", statistics.median(beside) * 1e3, "ms", spread([b * 1e3 for b in beside]))
    alone, two_workers = statistics.median(rates["one process"]), statistics.median(rates["two workers"])
    report.add("decode1: two workers over one process", two_workers / alone, "", ">= 0.97")


def link(options, clusters, rng, report):
    with Network(["near", "far"], DELAY_MS, RATE_GBIT) as network, Cluster(options, options.cores, network) as cluster:
        frame_s = hidden_size(options) * 4 * 8 / (RATE_GBIT * 1e9)
        measured, expected, ratios = [], [], []
        for _ in range(options.rounds):
            answers = cluster.run([[(random_ids(rng, 16), options.tokens)]])
            begin, end = steady(answers)
            steps = [step for step in answers.steps if begin < step["end"] <= end]
            measured.append((end - begin) / len(steps))
            expected.append(statistics.mean(sum(step["compute"]) for step in steps) + frame_s + 2 * DELAY_MS / 1e3)
            ratios.append(measured[-1] / expected[-1])
    report.add(f"link: a token over {DELAY_MS} ms and {RATE_GBIT} Gbit/s", statistics.median(measured) * 1e3, "ms", spread([m * 1e3 for m in measured]))
    report.add("link: compute + wire + twice the delay", statistics.median(expected) * 1e3, "ms")
    report.add("link: measured over expected", statistics.median(ratios), "", "<= 1.05")


def prefix(options, clusters, rng, report):
    seconds = ([], [])
    for _ in range(options.rounds):
        shared = random_ids(rng, 1000)
        for column in seconds:
            column += clusters.two.run([[(shared + random_ids(rng, 8), 4)]]).first_token_s()
    first, second = map(statistics.median, seconds)
    report.add("prefix: first token of the first request", first, "s", spread(seconds[0]))
    report.add("prefix: of the second, which shares 1,000 tokens", second, "s", spread(seconds[1]))
    report.add("prefix: second over first", second / first, "", "<= 0.05")


def simulate(options, clusters, rng, report):
    two = clusters.two
    costs = StageCosts(two, rng)
    loads = {
        "prefill": ([(options.prompt, 1)], lambda answers: options.prompt / answers.first_token_s()[0]),
        "decode16": ([(16, options.tokens)] * 16, lambda answers: answers.between(*steady(answers))[0]),
        "decode1": ([(16, options.tokens)], decode_rate),
    }
    for name, (clients, rate_of) in loads.items():
        measured = [rate_of(two.run([[(random_ids(rng, prompt), most)] for prompt, most in clients])) for _ in range(options.rounds)]
        simulated = rate_of(costs.run(options, two.context, clients))
        report.add(f"simulate: {name}, measured", statistics.median(measured), "tokens/s", spread(measured))
        report.add(f"simulate: {name}, simulated", simulated, "tokens/s")
        report.add(f"simulate: {name}, simulated over measured", simulated / statistics.median(measured), "", "0.85 to 1.15")


def soak(options, clusters, rng, report):
    two = clusters.two
    requests = [(random_ids(rng, rng.randrange(8, 100)), rng.randrange(8, 40)) for _ in range(SOAK_REQUESTS)]
    alone = two.run([requests])
    expected = [answer["ids"] for answer in alone.answers]
    clients = [requests[i % SOAK_REQUESTS:] + requests[:i % SOAK_REQUESTS] for i in range(SOAK_CLIENTS)]
    memory = [two.resident_bytes()]
    seconds = options.minutes * 60
    # Buffers and pages are touched for the first time in the first quarter.
    timer = threading.Timer(seconds / 4, lambda: memory.append(two.resident_bytes()))
    timer.start()
    begin = time.monotonic()
    answers = two.run(clients, seconds)
    duration = time.monotonic() - begin
    timer.join()
    memory.append(two.resident_bytes())
    wrong = sum(not answer["error"] and answer["ids"] != expected[(answer["client"] + answer["request"]) % SOAK_REQUESTS]
                for answer in answers.answers)
    tokens = sum(len(answer["ids"]) for answer in answers.answers)
    report.add(f"soak: answers in {duration:.0f} s", len(answers.answers), "", f"{tokens / duration:.0f} tokens/s")
    report.add("soak: errors", len(alone.errors) + len(answers.errors), "", f"0 {set(answers.errors) or ''}")
    report.add("soak: answers that differ from those alone", wrong, "", "0")
    for index, (name, *sizes) in enumerate(zip(("coordinator", "first worker", "second worker"), *memory)):
        shown = [f"{size / 2**20:.1f}" for size in sizes]
        report.add(f"soak: {name}, resident from the first quarter on", (sizes[2] - sizes[1]) / 2**20, "MiB more", f"<= 0; {', '.join(shown)}")


def main():
    parts = {"prefill": prefill, "decode16": decode16, "decode1": decode1, "link": link, "prefix": prefix, "simulate": simulate, "soak": soak}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=pathlib.Path, default=ROOT / "build/bench/bin")
    parser.add_argument("--model", type=pathlib.Path, default=ROOT / "build/bench/models/llama-1b-q4_k_m.gguf", help="made if it is not there")
    parser.add_argument("--only", type=lambda text: text.split(","), default=[name for name in parts if name != "soak"])
    parser.add_argument("--cores", type=lambda text: [int(core) for core in text.split(",")], default=[0, 1], help="of the two workers")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--prompt", type=int, default=2048, help="tokens of prefill's prompts")
    parser.add_argument("--tokens", type=int, default=64, help="of an answer")
    parser.add_argument("--minutes", type=float, default=10, help="of soak")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--coordinator-flags", type=str.split, default=[], help="more flags, in one argument")
    parser.add_argument("--json", action="store_true", help="print a JSON object as well")
    options = parser.parse_args()
    if unknown := set(options.only) - set(parts):
        parser.error(f"--only: no part {', '.join(sorted(unknown))}; there are {', '.join(parts)}")
    if not options.model.exists():
        options.model.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([options.bin / "tandem", "make-model", "--shape", "llama-1b", "--type", "q4_k_m", options.model], check=True)
    rng, report = random.Random(options.seed), Report()
    with contextlib.ExitStack() as stack:
        clusters = Clusters(options, stack)
        for name in options.only:
            try:
                parts[name](options, clusters, rng, report)
            except NoRights as error:
                print(f"{name}: skipped: {error}", file=sys.stderr)
        if "two" in vars(clusters):
            report.add("layers of the two stages", clusters.two.split())
    if options.json:
        print(json.dumps(report.values))


if __name__ == "__main__":
    main()
