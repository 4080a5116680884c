"""Starts and stops Tandem's programs for black-box tests."""

import os
import pathlib
import signal
import socket
import subprocess
import tempfile
import time

SOURCE = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ.get("TANDEM_BIN", SOURCE / "build/test/bin"))
DEMO_MODEL = SOURCE / "models/tandem-demo.gguf"
REFERENCE = pathlib.Path(os.environ.get("TANDEM_REFERENCE", SOURCE.parent / "shared/reference"))
# Sanitizer builds start slowly; nothing waits this long when all is well.
DEADLINE_S = 60


def free_port():
    """A port that was free a moment ago. Another process may take it: rare, and then the test says 'port in use'."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def tandem(*arguments, stdin="", timeout=DEADLINE_S, prefix=()):
    """Runs `tandem ARGUMENTS` and returns the finished process with its output as text."""
    return subprocess.run([*prefix, BIN / "tandem", *map(str, arguments)], input=stdin, capture_output=True, text=True,
                          timeout=timeout)


class Program:
    """A program in the background whose output is kept in a file."""

    def __init__(self, *command, prefix=()):
        self.log = tempfile.NamedTemporaryFile("w+", suffix=".log")
        self.process = subprocess.Popen([*prefix, *map(str, command)], stdout=self.log, stderr=subprocess.STDOUT,
                                        stdin=subprocess.DEVNULL)

    def output(self):
        return pathlib.Path(self.log.name).read_text(errors="replace")

    def wait_for(self, text):
        """Waits until `text` is in the output; fails with the output if the program ends or the deadline passes."""
        end = time.monotonic() + DEADLINE_S
        while text not in self.output():
            if self.process.poll() is not None or time.monotonic() > end:
                raise AssertionError(f"no '{text}' in the output of {self.process.args}:\n{self.output()}")
            time.sleep(0.05)

    def stop(self, signum=signal.SIGINT):
        """Sends the signal and returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signum)
        try:
            return self.process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"{self.process.args} did not stop:\n{self.output()}")


class Cluster:
    """A coordinator and workers as real processes on loopback. Use as a context manager."""

    def __init__(self, model=DEMO_MODEL, workers=2, coordinator_flags=(), worker_flags=(), min_workers=None):
        self.model, self.count = model, workers
        self.min_workers = max(1, workers) if min_workers is None else min_workers
        self.coordinator_flags, self.worker_flags = coordinator_flags, worker_flags
        self.server = f"127.0.0.1:{free_port()}"
        self.workers = []

    def __enter__(self):
        self.coordinator = Program(BIN / "tandem-coordinator", "--model", self.model, "--listen", self.server,
                                   "--min-workers", self.min_workers, *self.coordinator_flags)
        for index in range(self.count):
            self.add_worker(f"worker-{index}")
        if self.count:
            self.wait_serving()
        return self

    def __exit__(self, *_):
        for program in [*self.workers, self.coordinator]:
            if program.process.poll() is None:
                program.process.kill()
                program.process.wait()

    def add_worker(self, name, flags=()):
        worker = Program(BIN / "tandem-worker", "--coordinator", self.server, "--name", name, "--threads", 1, "--no-pin",
                         *self.worker_flags, *flags)
        self.workers.append(worker)
        return worker

    def wait_serving(self):
        result = self.tandem("status", "--wait", DEADLINE_S, timeout=DEADLINE_S + 10)
        if result.returncode != 0:
            logs = "\n".join(program.output() for program in [self.coordinator, *self.workers])
            raise AssertionError(f"not serving: {result.stderr}\n{result.stdout}\n{logs}")

    def tandem(self, command, *arguments, **options):
        return tandem(command, "--server", self.server, *arguments, **options)
