"""The simulator beside real runs: what steps of each size cost each stage, measured in runs of their own."""

import collections
import json
import statistics
import subprocess

from clusters import Answers, random_ids

MIN_STEPS = 5  # of a size, for its median


class StageCosts:
    """Of each stage of `cluster`: seconds of a step by its tokens, and what the attention of its chunks adds; and the time of a hop."""

    def __init__(self, cluster, rng, clients=(1, 4, 8, 12, 16, 24), prompts=(512, 3072), tokens=24):
        cluster.run([[(random_ids(rng, 512), 8)]])  # the first steps are slower
        decodes = [cluster.run([[(random_ids(rng, 16), tokens)] for _ in range(count)]).steps for count in clients]
        prefills = [self.chunks(cluster.run([[(random_ids(rng, prompt), 1)]]).steps) for prompt in prompts]
        beside = [step["end"] - step["planned"] - sum(step["compute"]) - sum(step["queue"]) for step in decodes[0] if not step["prefill"]]
        stages = range(len(decodes[0][0]["compute"]))
        self.hop_s = statistics.median(beside) / (len(stages) + 1)
        self.stages = [self.stage(stage, sum(decodes, []), prefills) for stage in stages]

    @staticmethod
    def chunks(steps):
        """(tokens, pairs of a token and a key that it attends to, seconds of each stage) of the steps of one prompt."""
        chunks, position = [], 0
        for step in steps:
            count = step["prefill"]
            chunks.append((count, count * position + count * (count + 1) / 2, step["compute"]))
            position += count
        return chunks

    @staticmethod
    def stage(stage, decodes, prefills):
        # Of chunks of the longest prompt that are alike all but the context.
        size = statistics.mode(count for count, _, _ in prefills[-1])
        alike = [(pairs, compute[stage]) for count, pairs, compute in prefills[-1] if count == size]
        pair_s = max(0, statistics.linear_regression(*zip(*alike)).slope)
        by_size = collections.defaultdict(list)
        for count, pairs, compute in sum(prefills, []):
            by_size[count].append(compute[stage] - pair_s * pairs)
        decode_sizes = collections.defaultdict(list)
        for step in decodes:
            if not step["prefill"]:
                decode_sizes[step["decode"]].append(step["compute"][stage])
        medians = lambda sizes: [(size, statistics.median(values)) for size, values in sorted(sizes.items()) if len(values) >= MIN_STEPS]
        return {"decode": medians(decode_sizes), "prefill": medians(by_size), "pair_s": pair_s}

    def run(self, options, context, clients):
        """As Cluster.run, but each of `clients` is (tokens of the prompt, max_tokens)."""
        plan = {"stages": self.stages, "hop_s": self.hop_s, "num_pages": 16 * context // 32, "page_tokens": 32, "max_step_tokens": 512,
                "context": context, "clients": [[{"prompt": prompt, "max_tokens": most}] for prompt, most in clients]}
        done = subprocess.run([options.bin / "pipeline_simulate"], input=json.dumps(plan), capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(done.stderr)
        return Answers(done.stdout.splitlines())
