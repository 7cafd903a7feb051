#!/usr/bin/env python3
"""`weir score` over gRPC against an independent program: SmolLM2 on one rank and on three."""
import json
import os
import pathlib
import sys

ROOT = pathlib.Path(os.environ["TEST_SRCDIR"]) / "weir"
sys.path.insert(0, str(ROOT / "tests/testing"))

from weir_server import WeirServer  # pylint: disable=wrong-import-position

# A cache that holds the whole text.
CASCADE = ["--sinks", 64, "--slots", 4096, "--sub-caches", 4, "--stride", 256]


def score(ranks, text):
    model = ROOT.parent / "smollm2/model.gguf"
    with WeirServer(ROOT / "cli/weir", model, "--tensor-parallel", ranks, "--max-sessions", 1, *CASCADE) as server:
        lines = server.run("score", "--json", "--file", text, *CASCADE).splitlines()
    return [json.loads(line) for line in lines]


def main():
    golden = json.loads((ROOT / "tests/testing/golden/smollm2_logprobs.json").read_text())
    assert len(golden["logprobs"]) >= 2000
    for ranks in (1, 3):
        scored = score(ranks, ROOT / "tests/testing/golden/newton_opticks.txt")
        assert [token["token"] for token in scored] == golden["tokens"]
        assert scored[0]["logprob"] is None
        differences = [abs(token["logprob"] - expected)
                       for token, expected in zip(scored[1:], golden["logprobs"], strict=True)]
        mean = sum(differences) / len(differences)
        print(f"{ranks} ranks, {len(differences)} tokens: mean difference {mean:.2e}, largest {max(differences):.2e}")
        assert mean <= 0.01


main()
