#!/usr/bin/env python3
"""The same call gives the same tokens on a busy server and on an idle one, over gRPC on three ranks."""
import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(os.environ["TEST_SRCDIR"]) / "weir"
sys.path.insert(0, str(ROOT / "tests/testing"))

from weir_server import WeirServer  # pylint: disable=wrong-import-position

CASCADE = ["--sinks", 8, "--slots", 64, "--sub-caches", 4, "--stride", 32]
TEXT = ROOT / "tests/testing/golden/newton_opticks.txt"


def answer(server, folder):
    """The tokens of a sampled answer, with log-probabilities, to a text several times the cache."""
    text = folder / "text"
    text.write_text(TEXT.read_text()[:1500])
    output = server.run("generate", "--json", "--file", text, "In short,", "--temperature", 0.8, "--seed", 5,
                        "--top-logprobs", 2, "--ignore-end", "--max-tokens", 30, *CASCADE)
    return [token for line in output.splitlines() for token in json.loads(line).get("tokens", [])]


def main():
    model = ROOT.parent / "smollm2/model.gguf"
    folder = pathlib.Path(os.environ["TEST_TMPDIR"])
    with WeirServer(ROOT / "cli/weir", model, "--tensor-parallel", 3, "--max-sessions", 4, *CASCADE) as server:
        idle = answer(server, folder)
        assert len(idle) == 30
        neighbours = []
        for seed in range(3):
            command = server.command("generate", "--file", TEXT, f"{seed}", "--temperature", 1, "--seed", seed,
                                     "--ignore-end", "--max-tokens", 0)
            neighbours.append(subprocess.Popen([*map(str, command), *map(str, CASCADE)], stdout=subprocess.DEVNULL))
        busy = answer(server, folder)
        assert all(neighbour.poll() is None for neighbour in neighbours), "a neighbour ended early"
        for neighbour in neighbours:
            neighbour.terminate()
            neighbour.wait()
    assert busy == idle, f"{busy} is not {idle}"


main()
