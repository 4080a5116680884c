"""Checks the rules of docs/ARCHITECTURE.md, "Where things live". Usage: check_structure.py SOURCE_DIR. Prints each violation."""

import pathlib
import re
import sys

# What the files of a folder may include, besides their own folder, the C++ library and the libraries of their job.
MAY_INCLUDE = {
    "engine": set(),
    "proto": {"engine", "tandem"},
    "links": {"proto", "engine", "tandem"},
    "worker": {"links", "proto", "engine", "tandem"},
    "coordinator": {"links", "proto", "engine", "tandem"},
    "cli": {"coordinator", "worker", "links", "proto", "engine", "tandem"},
}
NETWORK = re.compile(r"^(grpc|grpcpp|google/protobuf|tandem/v1|boost|asio|nccl|sys/socket|netinet)")
INCLUDE = re.compile(r'^\s*#include\s*[<"]([^>"]+)[>"]', re.MULTILINE)


def violations(root):
    ours = set(MAY_INCLUDE) | {"tests"}
    for folder, allowed in MAY_INCLUDE.items():
        for path in sorted((root / folder).rglob("*")):
            if path.suffix not in (".h", ".cc"):
                continue
            name = path.relative_to(root).as_posix()
            text = path.read_text()
            includes = INCLUDE.findall(text)
            for include in includes:
                top = include.split("/")[0]
                if top in ours and top != folder and top not in allowed:
                    yield f"{name} includes {include}: {folder} may not include {top}"
                if folder == "engine" and NETWORK.match(include):
                    yield f"{name} includes {include}: the engine knows no network"
            if path.suffix == ".h" and "#pragma once" not in text:
                yield f"{name} has no #pragma once"
            own = path.with_suffix(".h")
            if path.suffix == ".cc" and own.exists() and includes[:1] != [own.relative_to(root).as_posix()]:
                yield f"{name} does not include its own header first"


def main():
    found = list(violations(pathlib.Path(sys.argv[1])))
    print("\n".join(found) or "structure: clean")
    sys.exit(1 if found else 0)


main()
