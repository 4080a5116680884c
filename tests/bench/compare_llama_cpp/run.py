"""A whole model in one stage beside llama.cpp (npm package node-llama-cpp), in one run on this machine.

    cmake --preset bench && cmake --build build/bench --target engine_speed tandem
    python3 tests/bench/compare_llama_cpp/run.py [--shapes llama-1b,llama-7b] [--types q4_k_m,q4_0,q8_0] [--threads 1,2]

Both run the same files, made by `tandem make-model` in the build folder, with the same number of threads, one after the
other, --rounds times; a figure is the median of its rounds, a ratio is ours over theirs. --isa avx2 compares the AVX2
kernels with llama.cpp's build for Haswell. The roof of a decode is what the threads can read in a second, measured in
the same run, over the bytes of the weights that a token reads. Prints Markdown tables.
"""

import argparse
import json
import pathlib
import statistics
import subprocess

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
PACKAGE = "node-llama-cpp@3"


def run(*command, cwd=None):
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{command[0]} failed:\n{done.stderr}{done.stdout}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def install(folder, isa):
    """The package in a folder of its own; for AVX2 without the libraries of newer processors, which it would prefer."""
    if not (folder / "node_modules/node-llama-cpp").exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text('{"private": true, "type": "module"}')
        subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", PACKAGE], cwd=folder, check=True)
        if isa == "avx2":
            kept = ("haswell", "ivybridge", "sandybridge", "piledriver", "sse42", "x64")
            for library in folder.glob("node_modules/@node-llama-cpp/linux-x64/bins/linux-x64/libggml-cpu-*.so"):
                if library.stem.removeprefix("libggml-cpu-") not in kept:
                    library.unlink()
    return json.loads((folder / "node_modules/node-llama-cpp/package.json").read_text())["version"]


def model(options, shape, kind):
    path = options.models / f"{shape}-{kind}.gguf"
    if not path.exists():
        options.models.mkdir(parents=True, exist_ok=True)
        print(f"making {path.name}", flush=True)
        subprocess.run([options.bin / "tandem", "make-model", "--shape", shape, "--type", kind, path], check=True)
    return path


def medians(rounds):
    """The median of each number of a list of alike JSON objects."""
    first = rounds[0]
    return {
        key: medians([r[key] for r in rounds]) if isinstance(value, dict)
        else statistics.median(r[key] for r in rounds) if isinstance(value, (int, float)) else value
        for key, value in first.items() if value is not None
    }


def measure(options, path, threads, peers):
    own = [options.bin / "engine_speed", path, "--threads", threads, "--prefill", options.prefill, "--decode", options.decode, "--rounds", 1]
    if options.isa:
        own += ["--isa", options.isa]
    extras = [argument for batch in options.batches for argument in ("--batch", batch)]
    extras += [argument for context in options.contexts for argument in ("--context", context)]
    ours, theirs = [], []
    for _ in range(options.rounds):
        ours.append(run(*own, *extras))
        theirs.append(run("node", HERE / "peer.mjs", path, threads, options.prefill, options.decode, 1, cwd=peers))
    return medians(ours), medians(theirs)


def numbers(text):
    return [int(part) for part in text.split(",") if part]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=pathlib.Path, default=ROOT / "build/bench/bin")
    parser.add_argument("--models", type=pathlib.Path, default=ROOT / "build/bench/models")
    parser.add_argument("--shapes", type=lambda text: text.split(","), default=["llama-1b", "llama-7b"])
    parser.add_argument("--types", type=lambda text: text.split(","), default=["q4_k_m", "q4_0", "q8_0"])
    parser.add_argument("--threads", type=numbers, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--prefill", type=int, default=512)
    parser.add_argument("--decode", type=int, default=32)
    parser.add_argument("--batches", type=numbers, default=[8, 32])
    parser.add_argument("--contexts", type=numbers, default=[4096])
    parser.add_argument("--isa", default="", help="our kernel set; avx2 also holds llama.cpp to it")
    options = parser.parse_args()
    peers = ROOT / "build" / ("bench-peers-avx2" if options.isa == "avx2" else "bench-peers")
    version = install(peers, options.isa)
    rows = []
    for shape in options.shapes:
        for kind in options.types:
            path = model(options, shape, kind)
            for threads in options.threads:
                ours, theirs = measure(options, path, threads, peers)
                rows.append((shape, kind, threads, path.stat().st_size, ours, theirs))
                print(json.dumps({"model": path.stem, "ours": ours, "theirs": theirs}), flush=True)

    print(f"\nnode-llama-cpp {version}; ours: {rows[0][4]['isa']}. Tokens per second.\n")
    print("| model | threads | decode | llama.cpp | ratio | of the roof | prefill | llama.cpp | ratio |")
    print("|---|---|---|---|---|---|---|---|---|")
    for shape, kind, threads, size, ours, theirs in rows:
        roof = ours["read_bytes_per_s"] / size
        print(f"| {shape} {kind} | {threads} | {ours['decode']:.1f} | {theirs['decode']:.1f} | {ours['decode'] / theirs['decode']:.2f} | "
              f"{ours['decode'] / roof:.0%} | {ours['prefill']:.0f} | {theirs['prefill']:.0f} | {ours['prefill'] / theirs['prefill']:.2f} |")
    batches, contexts = map(str, options.batches), map(str, options.contexts)
    batches, contexts = list(batches), list(contexts)
    print("\n| model | threads |" + "".join(f" {b} decodes, times one |" for b in batches) +
          "".join(f" after {c} tokens |" for c in contexts) + " load (GB/s) | peak of a load over memory held |")
    print("|---|---|" + "---|" * (len(batches) + len(contexts) + 2))
    for shape, kind, threads, size, ours, theirs in rows:
        cells = [f"{ours['batch'][b] / ours['decode']:.1f}" for b in batches]
        cells += [f"{ours['context'][c] / ours['decode']:.0%}" for c in contexts]
        cells += [f"{size / ours['load_s'] / 1e9:.2f}", f"{ours['load_peak_bytes'] / ours['memory_bytes'] - 1:+.1%}"]
        print(f"| {shape} {kind} | {threads} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
