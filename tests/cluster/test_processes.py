"""Coordinator and workers as real processes."""

import concurrent.futures
import json
import os
import pathlib
import re
import signal
import subprocess
import tempfile
import time
import unittest
import urllib.request
import xml.etree.ElementTree

from programs import BIN, DEMO_MODEL, SOURCE, Cluster, Program, free_port, tandem

GREEDY = ["--max-tokens", 60, "--ignore-end-of-turn", "--print", "ids", "-q"]
PROMPTS = ["Once upon a time", "The cat", "One day a girl named", "12 + 7 =", "What is", "A dog and a bird", "In the garden", "Tandem"]


LONG = [*GREEDY[2:], "--max-tokens", 900]


def alone(prompt, flags=GREEDY):
    """The ids that one process gives, the truth for every cluster."""
    result = tandem("generate", "--model", DEMO_MODEL, "--local", 1, *flags, prompt)
    assert result.returncode == 0, result.stderr
    return result.stdout


def running_and_pages(cluster):
    status = cluster.tandem("status").stdout
    return tuple(map(int, re.search(r"requests (\d+) running, (\d+) waiting; KV pages (\d+) of", status).groups()))


class TwoWorkersTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.metrics = [free_port() for _ in range(2)]
        cls.cluster = Cluster(coordinator_flags=["--metrics", f"127.0.0.1:{cls.metrics[0]}"])
        cls.cluster.__enter__()

    @classmethod
    def tearDownClass(cls):
        cls.cluster.__exit__()

    def test_status_shows_a_split_model(self):
        status = self.cluster.tandem("status").stdout
        self.assertIn("serving", status)
        ranges = re.findall(r"^\d +worker-\d +(\d+)-(\d+) ", status, re.MULTILINE)
        self.assertEqual(len(ranges), 2, status)
        self.assertEqual(int(ranges[0][0]), 0)
        self.assertEqual(int(ranges[1][0]), int(ranges[0][1]) + 1)
        self.assertIn("streamed", status)

    def test_answers_equal_those_of_one_process(self):
        for prompt in PROMPTS[:3]:
            result = self.cluster.tandem("generate", *GREEDY, prompt)
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertEqual(result.stdout, alone(prompt))

    def test_eight_clients_at_once_get_what_each_gets_alone(self):
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            together = list(pool.map(lambda prompt: self.cluster.tandem("generate", *GREEDY, prompt).stdout, PROMPTS))
        for prompt, ids in zip(PROMPTS, together):
            self.assertEqual(ids, alone(prompt), prompt)

    def test_unknown_model_names_the_one_served(self):
        result = self.cluster.tandem("generate", "--model", "no-such-model", "x")
        self.assertEqual(result.returncode, 1)
        self.assertIn("no-such-model", result.stderr)
        self.assertIn("tandem-demo", result.stderr)

    def test_interrupted_client_frees_its_pages(self):
        client = Program(BIN / "tandem", "generate", "--server", self.cluster.server, "--ignore-end-of-turn", "--temperature", 1, "Once upon a time")
        client.wait_for(" ")
        client.stop(signal.SIGINT)
        end = time.monotonic() + 10
        while running_and_pages(self.cluster) != (0, 0, 0):
            self.assertLess(time.monotonic(), end, self.cluster.tandem("status").stdout)
            time.sleep(0.05)

    def test_metrics(self):
        self.cluster.tandem("generate", *GREEDY, "The cat")
        text = urllib.request.urlopen(f"http://127.0.0.1:{self.metrics[0]}/metrics", timeout=10).read().decode()
        for name in ("coordinator_requests_total", "coordinator_tokens_total", "coordinator_time_to_first_token_seconds", "coordinator_step_seconds"):
            self.assertIn(name, text)
        for part in ("compute", "queue", "wire"):
            self.assertIn(f'part="{part}"', text)

    def test_plan_of_the_live_cluster(self):
        plan = self.cluster.tandem("plan")
        self.assertEqual(plan.returncode, 0, plan.stderr)
        self.assertIn("tokens/s", plan.stdout)


class BenchTest(unittest.TestCase):
    """`tandem bench` against two workers."""

    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster()
        cls.cluster.__enter__()

    @classmethod
    def tearDownClass(cls):
        cls.cluster.__exit__()

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.json, self.chart = self.folder / "report.json", self.folder / "chart.svg"

    def bench(self, *flags):
        return self.cluster.tandem("bench", "--json", self.json, *flags)

    def write(self, name, *lines):
        path = self.folder / name
        path.write_text("\n".join(map(json.dumps, lines)))
        return path

    def test_clients_in_a_closed_loop_with_report_and_chart(self):
        result = self.bench("--clients", 4, "--requests", 12, "--prompt-tokens", "8..24", "--answer-tokens", 6, "--shared-prefix", 40,
                            "--chart", self.chart)
        self.assertEqual(result.returncode, 0, result.stderr)
        report = json.loads(self.json.read_text())
        self.assertEqual(report["requests"], {"ok": 12, "failed": 0, "cut_off": 0})
        self.assertEqual((report["errors"], report["short_answers"]), ({}, 0))
        self.assertEqual(report["answer_tokens"], 12 * 6)
        self.assertTrue(12 * 48 <= report["prompt_tokens"] <= 12 * 64, report)
        self.assertEqual(report["steps"]["prefill_tokens"] + report["cached_tokens"], report["prompt_tokens"])
        for name, count in (("time_to_first_token_s", 12), ("time_between_tokens_s", 12 * 5), ("latency_s", 12)):
            times = report[name]
            self.assertEqual(times["count"], count)
            self.assertTrue(0 <= times["p50"] <= times["p90"] <= times["p99"] <= times["max"] <= report["wall_s"], (name, times))
        self.assertGreaterEqual(report["steps"]["decode_tokens"], 12 * 5)
        self.assertEqual((len(report["stages"]), report["steps"]["lost"]), (2, 0))
        for stage in report["stages"]:
            self.assertTrue(0 < stage["utilisation"] <= 1, report["stages"])
        for text in ("12 ok, 0 failed", "time to first token", "utilisation"):
            self.assertIn(text, result.stdout)
        svg = xml.etree.ElementTree.parse(self.chart).getroot()
        rows = [group for group in svg.iter("{http://www.w3.org/2000/svg}g") if group.get("class") == "stage"]
        self.assertEqual(len(rows), 2)
        for row in rows:
            bars = row.findall("{http://www.w3.org/2000/svg}rect")
            self.assertEqual(len(bars) - 1, min(300, report["steps"]["count"]))  # the first is the row's background

    def test_poisson_arrivals_of_a_text_and_a_trace(self):
        result = self.bench("--rate", 100, "--requests", 10, "--prompt-tokens", "lognormal(12,0.5)", "--answer-tokens", "1..4", "--text",
                            SOURCE / "README.md")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(json.loads(self.json.read_text())["requests"]["ok"], 10)
        trace = self.write("trace.jsonl", {"at_s": 0, "prompt_tokens": 8, "max_tokens": 3}, {"at_s": 0.2, "prompt": "The cat", "max_tokens": 5})
        result = self.bench("--trace", trace)
        self.assertEqual(result.returncode, 0, result.stderr)
        report = json.loads(self.json.read_text())
        self.assertEqual((report["requests"]["ok"], report["answer_tokens"]), (2, 8))
        self.assertGreaterEqual(report["wall_s"], 0.2)

    def test_a_failed_request_is_counted_and_fails_the_command(self):
        trace = self.write("trace.jsonl", {"at_s": 0, "prompt_tokens": 8, "max_tokens": 3}, {"at_s": 0, "prompt": "word " * 20000, "max_tokens": 5})
        result = self.bench("--trace", trace)
        self.assertEqual(result.returncode, 1)
        self.assertIn("1 of 2 requests failed", result.stderr)
        self.assertIn("INVALID_ARGUMENT", result.stdout)
        report = json.loads(self.json.read_text())
        self.assertEqual((report["requests"]["ok"], report["errors"]), (1, {"INVALID_ARGUMENT": 1}))

    def test_what_cannot_be_run_is_refused_before(self):
        for flags, text in ((["--prompt-tokens", "5..x"], "5..x"), (["--prompt-tokens", 900000], "context"), (["--model", "other"], "tandem-demo"),
                            (["--trace", self.write("bad", {"at_s": 0})], "line 1: "), (["--trace", "/no/such"], "/no/such"),
                            (["--text", "/no/such"], "/no/such"), (["--chart", "/no/such/chart"], "/no/such/chart")):
            result = self.bench(*flags)
            self.assertEqual(result.returncode, 1, flags)
            self.assertIn(text, result.stderr)
        self.assertEqual(self.bench("--rate", 1, "--clients", 2).returncode, 2)
        self.assertEqual(self.bench("--rate", -1).returncode, 2)
        self.assertEqual(self.bench("--seed", -1).returncode, 2)
        self.assertEqual(self.bench("--shared-prefix", -1).returncode, 2)

    def test_an_interrupted_load_is_reported(self):
        bench = Program(BIN / "tandem", "bench", "--server", self.cluster.server, "--clients", 2, "--duration", 600, "--answer-tokens", 400, "--json",
                        self.json)
        end = time.monotonic() + 30
        while running_and_pages(self.cluster)[0] == 0:
            self.assertLess(time.monotonic(), end, bench.output())
            time.sleep(0.05)
        self.assertEqual(bench.stop(signal.SIGINT), 130, bench.output())
        requests = json.loads(self.json.read_text())["requests"]
        self.assertEqual(requests["failed"], 0)
        self.assertGreaterEqual(requests["ok"] + requests["cut_off"], 1)


class UpJoinTest(unittest.TestCase):
    def test_up_prints_the_line_for_the_other_machine_and_both_serve(self):
        server = f"127.0.0.1:{free_port()}"
        up = Program(BIN / "tandem", "up", DEMO_MODEL, "--listen", server, "--min-workers", 2, "--threads", 1)
        join = None
        try:
            up.wait_for(f"tandem join {server}")
            join = Program(BIN / "tandem", "join", server, "--threads", 1)
            result = tandem("status", "--server", server, "--wait", 60, timeout=90)
            self.assertEqual(result.returncode, 0, result.stderr + up.output() + join.output())
            answer = tandem("generate", "--server", server, *GREEDY, "Once upon a time")
            self.assertEqual(answer.stdout, alone("Once upon a time"))
            self.assertEqual(join.stop(signal.SIGINT), 0)
        finally:
            codes = [program.stop(signal.SIGINT) for program in (up, join) if program]
        self.assertEqual(codes, [0, 0])

    def test_up_alone_serves_at_once(self):
        server = f"127.0.0.1:{free_port()}"
        up = Program(BIN / "tandem", "up", DEMO_MODEL, "--listen", server, "--threads", 1)
        try:
            self.assertEqual(tandem("status", "--server", server, "--wait", 60, timeout=90).returncode, 0, up.output())
            self.assertEqual(tandem("generate", "--server", server, *GREEDY, "The cat").stdout, alone("The cat"))
        finally:
            self.assertEqual(up.stop(signal.SIGTERM), 0)


class PipelinesTest(unittest.TestCase):
    """Two workers of which each holds the whole model: it is so small that a hop would take longer than its layers."""

    def test_two_pipelines_serve_and_one_takes_over(self):
        with Cluster(workers=2, min_workers=1) as cluster:
            end = time.monotonic() + 30
            while len(re.findall(r"^0 +worker-\d +0-\d+ .*$", status := cluster.tandem("status").stdout, re.MULTILINE)) < 2 or "load" in status:
                self.assertLess(time.monotonic(), end, status)
                time.sleep(0.05)
            self.assertIn("pipeline 2 of 2", status)
            with tempfile.TemporaryDirectory() as folder:
                path = pathlib.Path(folder) / "report.json"
                result = cluster.tandem("bench", "--clients", 4, "--requests", 16, "--prompt-tokens", 24, "--answer-tokens", 16, "--json", path)
                self.assertEqual(result.returncode, 0, result.stderr)
                report = json.loads(path.read_text())
            self.assertEqual([(stage["pipeline"], stage["stage"]) for stage in report["stages"]], [(0, 0), (1, 0)])
            for stage in report["stages"]:
                self.assertGreater(stage["compute_s"], 0)

            expected = {prompt: alone(prompt, LONG) for prompt in PROMPTS[:4]}
            clients = {prompt: Program(BIN / "tandem", "generate", "--server", cluster.server, *LONG, prompt) for prompt in expected}
            for client in clients.values():
                client.wait_for(" ")
            cluster.workers[0].process.kill()
            for prompt, client in clients.items():
                self.assertEqual(client.process.wait(60), 0, client.output() + cluster.coordinator.output())
                self.assertEqual(client.output(), expected[prompt])
            status = cluster.tandem("status").stdout
            self.assertIn("serving", status)
            self.assertNotIn("pipeline 2", status)


    def test_a_spare_worker_runs_the_draft_model(self):
        flags = ["--max-pipelines", 1, "--draft", DEMO_MODEL, "--draft-threads", 1]
        with Cluster(workers=2, min_workers=1, coordinator_flags=flags) as cluster:
            end = time.monotonic() + 30
            while not (drafts := re.search(r"^draft +tandem-demo .* on worker-(\d)$", status := cluster.tandem("status").stdout, re.MULTILINE)):
                self.assertLess(time.monotonic(), end, status)
                time.sleep(0.05)
            expected = alone("Once upon a time", LONG)
            self.assertEqual(cluster.tandem("generate", *LONG, "Once upon a time").stdout, expected)
            client = Program(BIN / "tandem", "generate", "--server", cluster.server, *LONG, "Once upon a time")
            client.wait_for(" ")
            cluster.workers[int(drafts.group(1))].process.kill()
            self.assertEqual(client.process.wait(60), 0, client.output() + cluster.coordinator.output())
            self.assertEqual(client.output(), expected)
            self.assertIn("on the coordinator's machine", cluster.tandem("status").stdout)


class FailureTest(unittest.TestCase):
    def test_a_killed_worker_costs_time_but_no_token(self):
        with Cluster(workers=2) as cluster:
            expected = alone("Once upon a time", LONG)
            client = Program(BIN / "tandem", "generate", "--server", cluster.server, *LONG, "Once upon a time")
            client.wait_for(" ")
            cluster.workers[0].process.kill()
            self.assertIsNone(client.process.poll(), "the answer was complete before the worker was killed")
            spare = cluster.add_worker("spare")
            self.assertEqual(client.process.wait(60), 0, client.output() + cluster.coordinator.output())
            self.assertEqual(client.output(), expected)
            self.assertIsNone(spare.process.poll())

    def test_no_worker_has_room(self):
        with Cluster(workers=0) as cluster:
            cluster.add_worker("tiny", ["--memory", "1MiB"])
            end = time.monotonic() + 30
            while "needs" not in (status := cluster.tandem("status").stdout):
                self.assertLess(time.monotonic(), end, status)
                time.sleep(0.05)
            self.assertRegex(status, r"waiting: .*MiB")
            result = cluster.tandem("generate", "--max-tokens", 1, "x", timeout=90)
            self.assertEqual(result.returncode, 1)
            self.assertIn("MiB", result.stderr)

    def test_all_stop_cleanly_on_a_signal(self):
        for signum in (signal.SIGINT, signal.SIGTERM):
            with Cluster(workers=2) as cluster:
                self.assertEqual([program.stop(signum) for program in [*cluster.workers, cluster.coordinator]], [0, 0, 0])

    def test_workers_return_after_the_coordinator_was_restarted(self):
        with Cluster(workers=2) as cluster:
            cluster.coordinator.process.kill()
            cluster.coordinator.process.wait()
            cluster.coordinator = Program(BIN / "tandem-coordinator", "--model", DEMO_MODEL, "--listen", cluster.server, "--min-workers", 2)
            cluster.wait_serving()
            self.assertEqual(cluster.tandem("generate", *GREEDY, "The cat").stdout, alone("The cat"))


def may_make_namespaces():
    name = f"tandem-probe-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True).returncode == 0
    if made:
        subprocess.run(["ip", "netns", "del", name], check=False)
    return made


class NamespaceTest(unittest.TestCase):
    """Coordinator and two workers on three hosts: network namespaces joined by a bridge."""

    def setUp(self):
        if os.geteuid() != 0 or not may_make_namespaces():
            self.skipTest("needs the right to make network namespaces (root)")
        tag = f"td{os.getpid() % 10000}"
        self.bridge, self.hosts = f"{tag}br", [f"{tag}h{index}" for index in range(3)]
        self.ip("link", "add", self.bridge, "type", "bridge")
        self.addCleanup(self.ip, "link", "del", self.bridge)
        self.ip("link", "set", self.bridge, "up")
        for index, host in enumerate(self.hosts):
            self.ip("netns", "add", host)
            self.addCleanup(self.ip, "netns", "del", host)
            self.ip("link", "add", f"{host}o", "type", "veth", "peer", "name", "eth0", "netns", host)
            self.ip("link", "set", f"{host}o", "master", self.bridge, "up")
            self.ip("-n", host, "addr", "add", f"10.213.77.{index + 1}/24", "dev", "eth0")
            self.ip("-n", host, "link", "set", "eth0", "up")
            self.ip("-n", host, "link", "set", "lo", "up")

    def ip(self, *arguments):
        subprocess.run(["ip", *arguments], check=True, capture_output=True)

    def test_three_hosts_answer_like_one(self):
        inside = [("ip", "netns", "exec", host) for host in self.hosts]
        server = "10.213.77.1:7070"
        programs = [Program(BIN / "tandem-coordinator", "--model", DEMO_MODEL, "--listen", server, "--min-workers", 2, "--insecure",
                            prefix=inside[0])]
        try:
            for index in (1, 2):
                programs.append(Program(BIN / "tandem-worker", "--coordinator", server, "--listen", f"10.213.77.{index + 1}:0", "--name",
                                        f"host-{index}", "--threads", 1, "--insecure", prefix=inside[index]))
            status = tandem("status", "--server", server, "--wait", 60, timeout=90, prefix=inside[2])
            self.assertEqual(status.returncode, 0, status.stderr + "".join(program.output() for program in programs))
            self.assertIn("10.213.77.2:", status.stdout)
            answer = tandem("generate", "--server", server, *GREEDY, "Once upon a time", prefix=inside[1])
            self.assertEqual(answer.stdout, alone("Once upon a time"), answer.stderr)
        finally:
            codes = [program.stop(signal.SIGTERM) for program in reversed(programs)]
        self.assertEqual(codes, [0, 0, 0])
