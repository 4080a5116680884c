"""Clusters of real processes for measurements: a coordinator and workers, each worker on a core of its own."""

import json
import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT / "tests/cluster"), str(ROOT / "tests/support/network")]

from programs import Program, free_port  # noqa: E402

START_S = 120
PORT = 7070  # in a namespace, where all ports are free


def random_ids(rng, count):
    """Tokens of any vocabulary; different every time, so that nothing of a prompt is known from before."""
    return [rng.randrange(300, 30000) for _ in range(count)]


class Answers:
    """What pipeline_clients printed."""

    def __init__(self, lines):
        parsed = [json.loads(line) for line in lines]
        self.answers = [line["answer"] for line in parsed if "answer" in line]
        self.steps = [line["step"] for line in parsed if "step" in line]
        self.errors = [answer["error"] for answer in self.answers if answer["error"]]

    def first_token_s(self):
        """Of the answers in the order of their requests."""
        return [answer["times"][0] - answer["start"] for answer in self.answers]

    def between(self, begin, end):
        """(tokens a second, [share of the time that each stage computed]) of a time in which nothing begins or ends."""
        tokens = sum(begin < time <= end for answer in self.answers for time in answer["times"])
        steps = [step for step in self.steps if begin < step["end"] <= end]
        if not steps or any(step["lost"] for step in steps):
            raise SystemExit("steps were lost: the machine is too busy to measure")
        stages = [sum(column) / (end - begin) for column in zip(*(step["compute"] for step in steps))]
        return tokens / (end - begin), stages


class Cluster:
    """Use as a context manager. `cores` has one core a worker; `nodes` of `network` are where worker after worker runs, the
    coordinator beside the first one."""

    def __init__(self, options, cores, network=None, context=4096):
        self.options, self.cores, self.network, self.context = options, cores, network, context
        self.programs = []
        self.server = f"{network.address(network.nodes[0])}:{PORT}" if network else f"127.0.0.1:{free_port()}"

    def __enter__(self):
        try:
            # Loopback and the emulated network are both this machine's own.
            open_to_all = ["--insecure"] if self.network else []
            self.start(0, "tandem-coordinator", "--model", self.options.model, "--listen", self.server, "--min-workers", len(self.cores),
                       "--context", self.context, "--max-sequences", 16, "--speculate", 0, *self.options.coordinator_flags, *open_to_all)
            for index, core in enumerate(self.cores):
                host = self.network.address(self.network.nodes[index]) if self.network else "127.0.0.1"
                self.start(index, "tandem-worker", "--coordinator", self.server, "--listen", f"{host}:0", "--name", f"core-{core}",
                           "--model", self.options.model, "--threads", 1, "--no-pin", *open_to_all, pin=["taskset", "-c", str(core)])
            self.status = self.tandem("status", "--server", self.server, "--wait", START_S)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for program in self.programs:
            program.process.kill()
            program.process.wait()

    def inside(self, index):
        return self.network.prefix(self.network.nodes[index]) if self.network else []

    def start(self, index, name, *arguments, pin=()):
        self.programs.append(Program(self.options.bin / name, *arguments, prefix=[*self.inside(index), *pin]))

    def tandem(self, *arguments):
        done = subprocess.run([*self.inside(0), self.options.bin / "tandem", *map(str, arguments)], capture_output=True, text=True)
        if done.returncode != 0:
            logs = "\n".join(program.output() for program in self.programs)
            raise SystemExit(f"{done.stderr}{done.stdout}\n{logs}")
        return done.stdout

    def split(self):
        """How the layers are spread, such as 0-7 8-15."""
        return " ".join(re.findall(r"^\d+ +core-\d+ +(\d+-\d+) ", self.status, re.MULTILINE))

    def run(self, clients, seconds=0):
        """Each of `clients` is a list of (ids, max_tokens). Errors are left to the caller where they run for some seconds."""
        plan = {"seconds": seconds, "clients": [[{"ids": ids, "max_tokens": most} for ids, most in requests] for requests in clients]}
        done = subprocess.run([*self.inside(0), self.options.bin / "pipeline_clients", "--server", self.server], input=json.dumps(plan),
                              capture_output=True, text=True)
        if done.returncode != 0 or done.stderr:
            raise SystemExit(f"pipeline_clients: {done.stderr}")
        answers = Answers(done.stdout.splitlines())
        if answers.errors and not seconds:
            raise SystemExit(f"{len(answers.errors)} of {len(answers.answers)} requests failed: {answers.errors[0]}")
        return answers

    def resident_bytes(self):
        """Of the coordinator and each worker."""
        page = os.sysconf("SC_PAGE_SIZE")
        return [int(pathlib.Path(f"/proc/{program.process.pid}/statm").read_text().split()[1]) * page for program in self.programs]


def hidden_size(options):
    text = subprocess.run([options.bin / "tandem", "inspect", options.model], capture_output=True, text=True, check=True).stdout
    return int(re.search(r"embedding_length\S* +.*?(\d+)\s*$", text, re.MULTILINE).group(1))


def decode_alone(options, core, ids, tokens):
    """Tokens a second of one process that has all layers, on one core."""
    done = subprocess.run(["taskset", "-c", str(core), options.bin / "tandem", "generate", "--model", options.model, "--local", "1",
                           "--threads", "1", "--ids", ",".join(map(str, ids)), "--max-tokens", str(tokens), "--ignore-end-of-turn",
                           "--print", "ids", "--speculate", "0"], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    return float(re.search(r"decode \d+ tokens, ([\d.]+) tokens/s", done.stderr).group(1))
