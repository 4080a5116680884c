"""Tokenizers and chat templates beside node-llama-cpp (llama.cpp) and @huggingface/jinja, in one run on this machine.

    cmake --preset bench && cmake --build build/bench --target tokenizer_bench template_bench
    python3 tests/bench/text/run.py [--bin build/bench/bin] [--seconds 2] [--cases 3]

Vocabularies, templates and inputs come from the reference folder ($TANDEM_REFERENCE, else shared/reference beside the
checkout); the English text is Debian's licence texts and Python's language manual. npm puts the two packages into the
build folder. Prints tables; a ratio is ours over theirs, by CPU
time: tokenizers the best round of each, templates the mean.
"""

import argparse
import json
import math
import os
import pathlib
import pydoc_data.topics
import subprocess
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
REFERENCE = pathlib.Path(os.environ.get("TANDEM_REFERENCE", ROOT.parent / "shared/reference"))
PACKAGES = ["node-llama-cpp@3", "@huggingface/jinja@0.5"]


def run(*command, cwd=None):
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{command[0]} failed:\n{done.stderr}{done.stdout}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def install(folder):
    if not (folder / "node_modules/node-llama-cpp").exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text('{"private": true, "type": "module"}')
        subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", *PACKAGES], cwd=folder, check=True)
    for name in ("node-llama-cpp", "@huggingface/jinja"):
        version = json.loads((folder / "node_modules" / name / "package.json").read_text())["version"]
        print(f"{name} {version}")


def english():
    licences = sorted(path for path in pathlib.Path("/usr/share/common-licenses").iterdir() if not path.is_symlink())
    return "\n\n".join([path.read_text(errors="replace") for path in licences] + list(pydoc_data.topics.topics.values()))


def tokenizers(options, peers, folder):
    text = folder / "english.txt"
    text.write_text(english())
    print(f"\nEnglish text, {text.stat().st_size / 1e6:.2f} MB; MB per CPU second\n")
    print(f"{'vocabulary':16} {'encode':>8} {'llama.cpp':>10} {'ratio':>7}   {'decode':>8} {'llama.cpp':>10} {'ratio':>7}   same ids")
    for model in sorted((REFERENCE / "tokenizer").glob("*.gguf")):
        ours = run(options.bin / "tokenizer_bench", model, text, "--seconds", options.seconds)
        theirs = run("node", HERE / "peer.mjs", "tokenizer", model, text, options.seconds, cwd=peers)
        row = f"{model.stem:16}"
        for key in ("encode_bytes_per_s", "decode_bytes_per_s"):
            row += f" {ours[key] / 1e6:8.1f} {theirs[key] / 1e6:10.2f} {ours[key] / theirs[key]:7.1f}  "
        print(row, "yes" if ours["checksum"] == theirs["checksum"] and ours["ids"] == theirs["ids"] else "NO")


def templates(options, peers, folder):
    reference = json.loads((REFERENCE / "chat/expected.json").read_text())
    print("\nChat templates; CPU microseconds, geometric means over the cases that both render\n")
    print(f"{'template':52} {'cases':>5} {'render':>8} {'jinja.js':>9} {'ratio':>7}   {'parse':>8} {'jinja.js':>9} {'ratio':>7}   right: ours, theirs")
    ratios = {"render_s": [], "parse_s": []}
    for name, cases in sorted(reference["expected"].items()):
        times = {(side, key): [] for side in (0, 1) for key in ratios}
        right = [0, 0]
        rendered = [case for case, expected in sorted(cases.items()) if "rendered" in expected]
        for case in rendered[:options.cases]:
            expected = cases[case]
            path = folder / "input.json"
            path.write_text(json.dumps({**reference["cases"][case], "bos_token": reference["bos_token"], "eos_token": reference["eos_token"]}))
            template = REFERENCE / "chat/templates" / name
            seconds = options.seconds / 4
            sides = (run(options.bin / "template_bench", template, path, "--seconds", seconds),
                     run("node", HERE / "peer.mjs", "template", template, path, seconds, cwd=peers))
            for side, result in enumerate(sides):
                right[side] += result.get("text") == expected["rendered"]
            if all("text" in result for result in sides):
                for side, result in enumerate(sides):
                    for key in ratios:
                        times[side, key].append(result[key])
        mean = {at: math.exp(sum(map(math.log, values)) / len(values)) for at, values in times.items() if values}
        row = f"{name[:52]:52} {len(times[0, 'render_s']):5}"
        for key in ratios:
            if mean:
                ratios[key].append(mean[1, key] / mean[0, key])
                row += f" {mean[0, key] * 1e6:8.1f} {mean[1, key] * 1e6:9.1f} {ratios[key][-1]:7.1f}  "
        print(row, f"{right[0]}, {right[1]}")
    for key, values in ratios.items():
        print(f"{key[:-2]}: {math.exp(sum(map(math.log, values)) / len(values)):.1f} times as fast (geometric mean over templates)")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=lambda path: pathlib.Path(path).resolve(), default=ROOT / "build/bench/bin")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--cases", type=int, default=100, help="of each template, at most")
    options = parser.parse_args()
    peers = options.bin.parent / "npm"
    install(peers)
    with tempfile.TemporaryDirectory() as folder:
        tokenizers(options, peers, pathlib.Path(folder))
        templates(options, peers, pathlib.Path(folder))


if __name__ == "__main__":
    main()
