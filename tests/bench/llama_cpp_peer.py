#!/usr/bin/env python3
"""Times llama.cpp, through PyPI's llama-cpp-python, on one model file: what a user would run instead on a CPU.

For each depth, from an empty context: the time to read that many tokens, then the time of single-token steps on top of
them. Prints one JSON object a line, in the fields of `weir bench offline --json`.
"""
import argparse
import json
import time

import llama_cpp

VOCABULARY = 40_000  # token ids below this are ordinary in every model of interest


def measure(arguments, tokens):
    """Prefill and decode speed of a fresh context, tokens per second."""
    model = llama_cpp.Llama(
        arguments.model, n_ctx=tokens + 128, n_batch=512, n_threads=arguments.threads,
        n_threads_batch=arguments.threads, flash_attn=True, verbose=False)
    model.eval(list(range(1000, 1016)))  # pages the weights in
    model.reset()

    begin = time.perf_counter()
    model.eval([1000 + i * 6151 % VOCABULARY for i in range(tokens)])
    middle = time.perf_counter()
    steps = 64 if tokens <= 4096 else 32
    for i in range(steps):
        model.eval([1000 + i * 37 % VOCABULARY])
    end = time.perf_counter()
    model.close()
    return tokens / (middle - begin), steps / (end - middle)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a GGUF file")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--depths", type=int, nargs="+", default=[128, 512, 2048, 4096, 8000])
    arguments = parser.parse_args()
    for tokens in arguments.depths:
        prefill, decode = measure(arguments, tokens)
        print(json.dumps({"tokens": tokens, "prefill_tokens_per_s": round(prefill, 1),
                          "decode_tokens_per_s": round(decode, 1),
                          "version": f"llama-cpp-python {llama_cpp.__version__}"}), flush=True)


if __name__ == "__main__":
    main()
