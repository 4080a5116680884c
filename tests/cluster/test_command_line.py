"""What `tandem` says and returns when it is used rightly and wrongly, without a cluster."""

import array
import json
import math
import pathlib
import signal
import tempfile
import time
import unittest

from programs import BIN, DEMO_MODEL, REFERENCE, Program, free_port, tandem

COMMANDS = ["up", "join", "generate", "chat", "embed", "bench", "status", "plan", "inspect", "tokenize", "detokenize", "template", "logits",
            "make-model", "perplexity", "quantize"]


class CommandLineTest(unittest.TestCase):
    def assert_fails(self, result, code, *texts):
        self.assertEqual(result.returncode, code, result.stderr + result.stdout)
        for text in texts:
            self.assertIn(text, result.stderr + (result.stdout if code == 2 else ""))

    def test_help_names_every_command_and_each_has_its_own(self):
        overview = tandem("--help")
        self.assertEqual(overview.returncode, 0)
        for command in COMMANDS:
            self.assertIn(command, overview.stdout)
            self.assertEqual(tandem(command, "--help").returncode, 0)

    def test_unknown_flag_is_a_usage_error(self):
        self.assert_fails(tandem("generate", "--no-such-flag"), 2, "--no-such-flag")

    def test_missing_model_names_the_file(self):
        self.assert_fails(tandem("generate", "--model", "/no/such.gguf", "--local", 1, "x"), 1, "/no/such.gguf")

    def test_corrupt_model_names_the_problem(self):
        with tempfile.NamedTemporaryFile(suffix=".gguf") as file:
            file.write(DEMO_MODEL.read_bytes()[:5000])
            file.flush()
            self.assert_fails(tandem("generate", "--model", file.name, "--local", 1, "x"), 1, file.name)
            self.assert_fails(tandem("inspect", file.name), 1, file.name)

    def test_file_that_is_no_model(self):
        self.assert_fails(tandem("inspect", __file__), 1, "GGUF")

    def test_no_server_says_what_to_do(self):
        self.assert_fails(tandem("status", "--server", f"127.0.0.1:{free_port()}"), 1, "tandem up")

    def test_more_workers_than_layers(self):
        self.assert_fails(tandem("generate", "--model", DEMO_MODEL, "--local", 1000, "x"), 1, "1000")

    def test_unsupported_architecture_is_named(self):
        with tempfile.NamedTemporaryFile(suffix=".gguf") as file:
            file.write(DEMO_MODEL.read_bytes().replace(b"llama", b"mamba", 1))
            file.flush()
            self.assert_fails(tandem("generate", "--model", file.name, "--local", 1, "--ids", "1"), 1, "mamba")
            self.assert_fails(tandem("inspect", file.name), 1, "mamba")

    def test_isa_must_be_known(self):
        result = tandem("generate", "--model", DEMO_MODEL, "--local", 1, "--cpu-isa", "avx9000", "x")
        self.assertIn(result.returncode, (1, 2))
        self.assertIn("avx9000", result.stderr + result.stdout)

    def test_limits_and_sampling_are_checked(self):
        local = ["generate", "--model", DEMO_MODEL, "--local", 1]
        self.assert_fails(tandem(*local, "--max-tokens", 0, "x"), 1, "max_tokens")
        self.assertNotEqual(tandem(*local, "--max-tokens", -5, "x").returncode, 0)
        self.assert_fails(tandem(*local, "--temperature", -1, "x"), 1, "temperature")
        self.assert_fails(tandem(*local, "--top-p", 1.5, "x"), 1, "top_p")
        self.assert_fails(tandem(*local, "--ids", "1,two", ), 1, "two")
        self.assert_fails(tandem(*local, "--ids", "99999999"), 1, "99999999")
        self.assert_fails(tandem(*local, stdin="word " * 50000), 1, "context")

    def test_embed_prints_a_vector_a_text(self):
        local = ["embed", "--model", DEMO_MODEL, "--local", 2]
        plain = tandem(*local, "12 birds", "a cat")
        self.assertEqual(plain.returncode, 0, plain.stderr)
        rows = [[float(x) for x in line.split()] for line in plain.stdout.splitlines()]
        self.assertEqual(len(rows), 2)
        for row in rows:
            self.assertAlmostEqual(sum(x * x for x in row), 1, places=5)
        last = json.loads(tandem(*local, "--pooling", "last", "--no-normalize", "--print", "json", stdin="12 birds").stdout)
        self.assertEqual(last["pooling"], "last")
        self.assertEqual(len(last["embeddings"][0]["values"]), len(rows[0]))
        self.assert_fails(tandem(*local, ""), 1, "inputs[0]")

    def test_adapters_are_checked(self):
        local = ["generate", "--model", DEMO_MODEL, "--local", 1, "--max-tokens", 1]
        self.assert_fails(tandem(*local, "--lora", "poet", "x"), 1, "poet", "none")
        self.assert_fails(tandem(*local, "--adapter", f"poet={DEMO_MODEL}", "x"), 1, "general.type")
        self.assert_fails(tandem(*local, "--adapter", "poet", "x"), 1, "NAME=FILE")

    def test_inspect_and_tokenize_the_bundled_model(self):
        inspected = tandem("inspect", DEMO_MODEL, "--tensors")
        self.assertEqual(inspected.returncode, 0, inspected.stderr)
        for text in ("general.architecture", "llama", "token_embd.weight", "Q8_0"):
            self.assertIn(text, inspected.stdout)
        ids = tandem("tokenize", "--model", DEMO_MODEL, "12 birds")
        self.assertEqual(ids.returncode, 0, ids.stderr)
        self.assertGreaterEqual(len(ids.stdout.split()), 3)

    def test_tokenize_and_detokenize_every_vocabulary_of_the_reference(self):
        folder = REFERENCE / "tokenizer"
        if not folder.exists():
            self.skipTest("reference folder is absent")
        models = sorted(folder.glob("*.gguf"))
        self.assertGreaterEqual(len(models), 7)
        for model in models:
            # A few of the cases: the unit tests look at all of them in one process.
            for case in json.loads((folder / f"{model.stem}.cases.json").read_text())[::60]:
                flags = [f"--{name.replace('_', '-')}" for name in ("add_special", "parse_special") if case.get(name)]
                encoded = tandem("tokenize", "--model", model, *flags, stdin=case["text"])
                self.assertEqual([int(word) for word in encoded.stdout.split()], case["ids"], (model.stem, case["text"]))
                self.assertEqual(encoded.stdout.count("\n"), 1)
                if not flags:
                    decoded = tandem("detokenize", "--model", model, stdin=encoded.stdout)
                    self.assertEqual((decoded.returncode, decoded.stdout), (0, case["text"]), decoded.stderr)

    def test_detokenize_arguments_and_what_it_refuses(self):
        ids = tandem("tokenize", "--model", DEMO_MODEL, "--parse-special", "Hi<|im_end|>").stdout.split()
        self.assertEqual(tandem("detokenize", "--model", DEMO_MODEL, *ids).stdout, "Hi")
        self.assertEqual(tandem("detokenize", "--model", DEMO_MODEL, "--special", ",".join(ids)).stdout, "Hi<|im_end|>")
        self.assertEqual(tandem("detokenize", "--model", DEMO_MODEL, stdin="\n").stdout, "")
        self.assert_fails(tandem("detokenize", "--model", DEMO_MODEL, "1", "99999999"), 1, "99999999", "vocabulary of")
        self.assert_fails(tandem("detokenize", "--model", DEMO_MODEL, "1,x"), 1, "'x'")
        self.assert_fails(tandem("detokenize", "1"), 2, "--model")

    def test_template_renders_every_reference_case_by_case(self):
        folder = REFERENCE / "chat"
        if not folder.exists():
            self.skipTest("reference folder is absent")
        reference = json.loads((folder / "expected.json").read_text())
        constants = {name: reference[name] for name in ("now", "bos_token", "eos_token")}
        outcomes = {"rendered": 0, "error": 0}
        for number, (template, cases) in enumerate(sorted(reference["expected"].items())):
            names = sorted(cases)
            for name in (names[number % len(names)], names[(number + 4) % len(names)]):
                result = tandem("template", folder / "templates" / template, "-",
                                stdin=json.dumps({**reference["cases"][name], **constants}))
                if "error" in cases[name]:
                    outcomes["error"] += 1
                    self.assert_fails(result, 1, cases[name]["error"], template, "line ")
                else:
                    outcomes["rendered"] += 1
                    self.assertEqual((result.returncode, result.stdout), (0, cases[name]["rendered"]), (template, name))
        self.assertGreater(outcomes["rendered"], 20)

    def test_template_of_a_model_and_what_it_refuses(self):
        with tempfile.TemporaryDirectory() as folder:
            def write(name, text):
                path = pathlib.Path(folder) / name
                path.write_text(text)
                return path
            talk = write("talk.json", json.dumps({"messages": [{"role": "user", "content": "Hi"}], "add_generation_prompt": True}))
            result = tandem("template", DEMO_MODEL, talk)
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertIn("<|im_start|>user\nHi<|im_end|>", result.stdout)
            self.assertEqual(tandem("template", write("year.jinja", "{{ strftime_now('%Y') }}"), talk).stdout, time.strftime("%Y"))
            self.assert_fails(tandem("template", write("bad.jinja", "one\n  {% if %}"), talk), 1, "bad.jinja", "line 2, column 9")
            self.assert_fails(tandem("template", write("raise.jinja", "\n{{ nothing.x }}"), talk), 1, "line 2, column", "nothing")
            good = write("good.jinja", "{{ messages[0].content }}")
            self.assertEqual(tandem("template", good, talk).stdout, "Hi")
            self.assert_fails(tandem("template", good, write("bad.json", "{\"messages\": [}")), 1, "bad.json", "JSON")
            self.assert_fails(tandem("template", good, write("list.json", "[]")), 1, "list.json", "object")
            self.assert_fails(tandem("template", good, write("now.json", '{"now": 5}')), 1, "now.json", "now")
            self.assert_fails(tandem("template", good, pathlib.Path(folder) / "absent.json"), 1, "absent.json")
            self.assert_fails(tandem("template", pathlib.Path(folder) / "absent.jinja", talk), 1, "absent.jinja")
            vocabulary = REFERENCE / "tokenizer/gpt-2.gguf"
            if vocabulary.exists():
                self.assert_fails(tandem("template", vocabulary, talk), 1, "gpt-2.gguf", "tokenizer.chat_template")

    def test_a_model_made_of_random_weights_runs(self):
        with tempfile.TemporaryDirectory() as folder:
            shape = ["--layers", 2, "--hidden", 256, "--ffn", 512, "--heads", 4, "--kv-heads", 2, "--vocab", 300, "--context", 64]
            files = [pathlib.Path(folder) / name for name in ("a.gguf", "b.gguf", "c.gguf")]
            for file, seed in zip(files, (1, 1, 2)):
                made = tandem("make-model", file, *shape, "--type", "q4_k_m", "--seed", seed)
                self.assertEqual(made.returncode, 0, made.stderr)
            self.assertEqual(files[0].read_bytes(), files[1].read_bytes())
            self.assertNotEqual(files[0].read_bytes(), files[2].read_bytes())
            run = tandem("generate", "--model", files[0], "--local", 2, "--max-tokens", 5, "--ignore-end-of-turn", "--print", "ids", "hello")
            self.assertEqual(run.returncode, 0, run.stderr)
            self.assertEqual(len(run.stdout.split()), 5)
            for name in ("mixtral-8x7b", "qwen3-30b-a3b", "deepseek-v3", "qwen2-7b"):
                made = tandem("make-model", files[2], "--shape", name, "--layers", 4, "--hidden", 256, "--ffn", 256, "--heads", 4,
                              "--vocab", 300, "--context", 64)
                self.assertEqual(made.returncode, 0, made.stderr)
                run = tandem("generate", "--model", files[2], "--local", 2, "--max-tokens", 3, "--ignore-end-of-turn", "--print", "ids", "hello")
                self.assertEqual(len(run.stdout.split()), 3, run.stderr)
            self.assert_fails(tandem("make-model", files[0], "--shape", "llama-9000b"), 2, "llama-9000b", "llama-65b")
            self.assert_fails(tandem("make-model", files[0], "--type", "q9"), 2, "q9", "Q4_K_M")
            self.assert_fails(tandem("make-model", files[0], "--vocab", 10), 1, "vocabulary is 10")
            self.assert_fails(tandem("make-model", pathlib.Path(folder) / "no/folder.gguf"), 1, "no/folder.gguf")
            self.assertEqual(len(list(pathlib.Path(folder).iterdir())), 3)

    def test_interrupted_making_of_a_model_leaves_nothing(self):
        with tempfile.TemporaryDirectory() as folder:
            program = Program(BIN / "tandem", "make-model", pathlib.Path(folder) / "big.gguf", "--shape", "llama-7b", "--type", "q8_0")
            end = time.monotonic() + 30
            while not list(pathlib.Path(folder).iterdir()) and time.monotonic() < end and program.process.poll() is None:
                time.sleep(0.02)
            if program.process.poll() is None:
                self.assertEqual(program.stop(signal.SIGINT), 130)
                self.assertEqual(list(pathlib.Path(folder).iterdir()), [])

    def test_inspect_as_json(self):
        result = tandem("inspect", DEMO_MODEL, "--json")
        self.assertEqual(result.returncode, 0, result.stderr)
        found = json.loads(result.stdout)
        self.assertTrue(found["runs"])
        self.assertEqual(found["bytes"], DEMO_MODEL.stat().st_size)
        self.assertEqual(found["metadata"]["general.architecture"], "llama")
        self.assertEqual(sum(tensor["bytes"] for tensor in found["tensors"]), sum(sums["bytes"] for sums in found["types"].values()))
        self.assertEqual(found["metadata"]["tokenizer.ggml.tokens"]["count"], found["model"]["vocab"])
        self.assertGreater(found["bytes_read_per_token"], 0.5 * found["bytes"])
        self.assertGreater(found["memory"][0]["kv_f16"], 0)

    def test_inspect_of_a_file_that_does_not_run(self):
        models = sorted((REFERENCE / "tokenizer").glob("*.gguf"))
        if not models:
            self.skipTest("reference folder is absent")
        result = tandem("inspect", models[0])
        self.assert_fails(result, 1, models[0].name, "cannot run")
        self.assertIn("general.architecture", result.stdout)
        as_json = tandem("inspect", models[0], "--json")
        self.assertEqual(as_json.returncode, 1)
        self.assertFalse(json.loads(as_json.stdout)["runs"])
        self.assertTrue(json.loads(as_json.stdout)["reason"])

    def test_plan_for_a_described_cluster(self):
        with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
            file.write('[[worker]]\nname = "fast"\nmemory_gib = 1\nbandwidth_gbs = 40\nint8_tops = 1\n'
                       '[[worker]]\nname = "slow"\nmemory_gib = 1\nbandwidth_gbs = 10\nint8_tops = 0.2\n')
            file.flush()
            plan = tandem("plan", DEMO_MODEL, "--cluster", file.name)
            self.assertEqual(plan.returncode, 0, plan.stderr)
            self.assertIn("fast", plan.stdout)
            self.assertIn("tokens/s", plan.stdout)

    def test_plan_simulates_a_load(self):
        with tempfile.TemporaryDirectory() as folder:
            cluster, report = f"{folder}/cluster.toml", f"{folder}/report.json"
            pathlib.Path(cluster).write_text('[[worker]]\nname = "desk"\nmemory_gib = 1\nbandwidth_gbs = 10\nint8_tops = 1\ncount = 1000\n')
            plan = tandem("plan", DEMO_MODEL, "--cluster", cluster, "--min-stages", "3", "--simulate", "--clients", "6", "--requests", "60",
                          "--prompt-tokens", "8..32", "--answer-tokens", "16", "--json", report)
            self.assertEqual(plan.returncode, 0, plan.stderr)
            self.assertIn("time between tokens", plan.stdout)
            as_json = json.loads(pathlib.Path(report).read_text())
            self.assertEqual(as_json["requests"]["ok"], 60)
            self.assertEqual(as_json["answer_tokens"], 60 * 16)
            # Of 333 pipelines the six clients use six.
            self.assertEqual({stage["stage"] for stage in as_json["stages"]}, {0, 1, 2})
            self.assertEqual(len({stage["pipeline"] for stage in as_json["stages"]}), 6)
            self.assertIn("999 stages in 333 pipelines", plan.stdout)
            self.assertTrue(all(0 < stage["utilisation"] <= 1 for stage in as_json["stages"]), as_json["stages"])
            self.assertNotEqual(tandem("plan", DEMO_MODEL, "--cluster", cluster, "--rate", "2").returncode, 0, "without --simulate")

    def test_listening_beyond_loopback_needs_insecure(self):
        for program in (Program(BIN / "tandem-coordinator", "--model", DEMO_MODEL, "--listen", f"0.0.0.0:{free_port()}"),
                        Program(BIN / "tandem-worker", "--coordinator", "127.0.0.1:1", "--listen", "0.0.0.0:0")):
            self.assertEqual(program.process.wait(30), 1)
            self.assertIn("--insecure", program.output())

    def test_port_in_use_is_named(self):
        port = free_port()
        first = Program(BIN / "tandem-coordinator", "--model", DEMO_MODEL, "--listen", f"127.0.0.1:{port}")
        try:
            first.wait_for(str(port))
            second = Program(BIN / "tandem-coordinator", "--model", DEMO_MODEL, "--listen", f"127.0.0.1:{port}")
            self.assertEqual(second.process.wait(30), 1)
            self.assertIn(str(port), second.output())
            self.assertIn("use", second.output())
        finally:
            self.assertEqual(first.stop(), 0)


class LocalTest(unittest.TestCase):
    """The embedded cluster: `--model FILE --local N`."""

    def test_greedy_ids_of_the_reference_model_on_any_number_of_workers(self):
        model = REFERENCE / "models/stories260k-f32.gguf"
        if not model.exists():
            self.skipTest("reference folder is absent")
        cases = json.loads((REFERENCE / "models/stories260k.json").read_text())
        self.assertEqual(len(cases), 5)
        for case in cases:
            prompt_ids, expected = case["prompt_ids"], case["greedy_ids"]
            for workers in (1, 2, 3, 5):
                result = tandem("generate", "--model", model, "--local", workers, "--ids", ",".join(map(str, prompt_ids)),
                                "--max-tokens", len(expected), "--ignore-end-of-turn", "--kv", "f32", "--print", "ids")
                self.assertEqual(result.returncode, 0, result.stderr)
                self.assertEqual([int(word) for word in result.stdout.split()], expected)

    def test_bundled_model_says_what_its_training_program_computed(self):
        cases = json.loads(DEMO_MODEL.with_suffix(".json").read_text())["prompts"]
        self.assertGreaterEqual(len(cases), 5)
        for case in cases:
            encoded = tandem("tokenize", "--model", DEMO_MODEL, "--parse-special", case["prompt"])
            self.assertEqual([int(word) for word in encoded.stdout.split()], case["ids"])
            result = tandem("generate", "--model", DEMO_MODEL, "--local", 2, "--ids", ",".join(map(str, case["ids"])), "--kv", "f32",
                            "--max-tokens", len(case["greedy"]), "--ignore-end-of-turn", "--print", "ids")
            self.assertEqual([int(word) for word in result.stdout.split()], case["greedy"], case["prompt"])

    def test_logits_are_equal_bits_for_any_split(self):
        with tempfile.TemporaryDirectory() as folder:
            files = []
            for workers in (1, 2, 4):
                out = pathlib.Path(folder) / f"{workers}.f32"
                result = tandem("logits", "--model", DEMO_MODEL, "--local", workers, "--ids", "1,40,30,200,77", "--kv", "f32", "--out", out)
                self.assertEqual(result.returncode, 0, result.stderr)
                files.append(out.read_bytes())
            self.assertGreater(len(files[0]), 0)
            self.assertEqual(len(files[0]) % (5 * 4), 0)
            self.assertEqual(files[0], files[1])
            self.assertEqual(files[0], files[2])

    def test_same_seed_same_text_and_another_seed_another(self):
        def draw(seed):
            result = tandem("generate", "--model", DEMO_MODEL, "--local", 2, "--temperature", 1.2, "--seed", seed, "--max-tokens", 40,
                            "--print", "ids", "Once upon a time")
            self.assertEqual(result.returncode, 0, result.stderr)
            return result.stdout
        self.assertEqual(draw(7), draw(7))
        self.assertNotEqual(draw(7), draw(8))

    def test_perplexity_is_what_the_logits_say(self):
        story = "Once upon a time there was a small bird. The bird sat in a tree and sang."
        ids = [int(word) for word in tandem("tokenize", "--model", DEMO_MODEL, story).stdout.split()]
        special = [int(word) for word in tandem("tokenize", "--model", DEMO_MODEL, "--add-special", story).stdout.split()]
        bos = special[:len(special) - len(ids)] if special[-len(ids):] == ids else []
        with tempfile.TemporaryDirectory() as folder:
            out = pathlib.Path(folder) / "logits.f32"
            seen = (bos + ids)[:-1]
            self.assertEqual(tandem("logits", "--model", DEMO_MODEL, "--ids", ",".join(map(str, seen)), "--kv", "f32", "--out", out).returncode, 0)
            logits = array.array("f", out.read_bytes())
            vocab, targets = len(logits) // len(seen), (bos + ids)[1:]
            nll = 0.0
            for row, target in enumerate(targets):
                values = logits[row * vocab:(row + 1) * vocab]
                top = max(values)
                nll += top + math.log(sum(math.exp(value - top) for value in values)) - values[target]
            expected = math.exp(nll / len(targets))
            result = tandem("perplexity", DEMO_MODEL, "-", "--kv", "f32", "--context", 256, stdin=story)
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertIn(f"({len(targets)} tokens)", result.stdout)
            self.assertAlmostEqual(float(result.stdout.split()[1]), expected, delta=2e-4 * expected)

    def test_quantised_model_is_near_the_original(self):
        text = "Once upon a time there was a small bird. The bird sat in a tree and sang. " * 8
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            (folder / "text").write_text(text)
            saved = tandem("perplexity", DEMO_MODEL, folder / "text", "--context", 64, "--save-base", folder / "base")
            self.assertEqual(saved.returncode, 0, saved.stderr)
            same = tandem("perplexity", DEMO_MODEL, folder / "text", "--context", 64, "--base", folder / "base")
            self.assertIn("mean 0.000000 +/- 0.000000", same.stdout)
            self.assertIn("token: 100.000 %", same.stdout)
            refused = tandem("quantize", DEMO_MODEL, folder / "q4.gguf", "q4_0")
            self.assertEqual(refused.returncode, 1)
            self.assertIn("--allow-requantize", refused.stderr)
            divergence = []
            for kind in ("q5_1", "q4_0"):
                made = tandem("quantize", DEMO_MODEL, folder / f"{kind}.gguf", kind, "--allow-requantize")
                self.assertEqual(made.returncode, 0, made.stderr)
                self.assertIn("quantised again", made.stderr)
                self.assertLess((folder / f"{kind}.gguf").stat().st_size, DEMO_MODEL.stat().st_size)
                compared = tandem("perplexity", folder / f"{kind}.gguf", folder / "text", "--context", 64, "--base", folder / "base")
                if compared.returncode != 0:
                    self.skipTest("formats without kernels yet: " + compared.stderr)
                divergence.append(float(compared.stdout.split("mean ")[1].split()[0]))
            self.assertGreater(divergence[0], 0)
            self.assertGreater(divergence[1], divergence[0])
            other = tandem("perplexity", DEMO_MODEL, folder / "text", "--context", 32, "--base", folder / "base")
            self.assertEqual(other.returncode, 1)
            self.assertIn("another text", other.stderr)

    def test_quantize_refuses_what_would_go_wrong(self):
        with tempfile.TemporaryDirectory() as name:
            copy = pathlib.Path(name) / "model.gguf"
            copy.write_bytes(DEMO_MODEL.read_bytes())
            for arguments, code, text in (([copy, copy, "q4_0"], 1, "is the file that is read"),
                                          ([copy, copy.with_name("o"), "q9_z"], 2, "Q4_K_M"),
                                          ([copy, copy.with_name("o"), "q4_0", "--output-type", "iq1_s"], 2, "iq1_s"),
                                          ([copy.with_name("absent"), copy.with_name("o"), "q4_0"], 1, "absent"),
                                          ([copy, copy.with_name("o"), "q4_0", "--imatrix", copy], 1, "no importance matrix")):
                result = tandem("quantize", *arguments)
                self.assertEqual(result.returncode, code, result.stderr)
                self.assertIn(text, result.stderr)
            self.assertEqual(copy.read_bytes(), DEMO_MODEL.read_bytes())
            self.assertEqual(list(pathlib.Path(name).iterdir()), [copy])

    def test_chat_keeps_the_conversation(self):
        result = tandem("chat", "--model", DEMO_MODEL, "--local", 2, "--max-tokens", 60, stdin="What is Tandem?\nWhat is a worker?\n/quit\n")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(len([line for line in result.stdout.splitlines() if line.strip()]), 2, result.stdout)
        self.assertIn("Tandem", result.stdout)

    def test_interrupt_stops_cleanly(self):
        program = Program(BIN / "tandem", "generate", "--model", DEMO_MODEL, "--local", 1, "--ignore-end-of-turn", "--temperature", 1,
                          "Once upon a time")
        program.wait_for(" ")
        time.sleep(0.1)
        if program.process.poll() is None:
            self.assertEqual(program.stop(signal.SIGINT), 130)
