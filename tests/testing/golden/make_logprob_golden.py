#!/usr/bin/env python3
"""Writes smollm2_logprobs.json: what an independent program says about SmolLM2-135M-Instruct.

  python3.11 -m venv VENV
  VENV/bin/pip install torch==2.5.1 transformers==4.46.3 gguf==0.10.0 numpy==1.26.4 accelerate==1.1.1
  VENV/bin/python make_logprob_golden.py MODEL.gguf

The model is Hugging Face transformers in float32 on the dequantised weights of the GGUF file. Before anything is
computed, every weight matrix that transformers holds is compared with a dequantisation written out below, straight
from the definition of the block formats, and with the row order of Q and K undone by hand.

The tokenizer is the `tokenizers` library, given the vocabulary and merges of the GGUF file and the pre-tokenizer of
SmolLM2's own tokenizer.json (each digit alone, then GPT-2's pattern). The tokenizer that transformers itself makes of
a GGUF file is not used: it leaves out the splitting of digits.

The same machine gives the same bytes; another machine may differ in the last digits written.

Contents of the JSON file:
  text        the file, beside this script, whose tokens are scored; no beginning-of-text token is put before it
  tokens      the text's token ids
  logprobs    logprobs[i] = ln p(tokens[i + 1] | tokens[0..i]): one fewer than there are tokens
  top         the 20 likeliest tokens after the first `position` tokens, likeliest first, with their log-probabilities
  greedy      two rendered ChatML prompts, their token ids, and 32 tokens of greedy continuation (end-of-turn tokens do
              not stop it) with the log-probability of each and its lead over the runner-up, `margins`
  versions    of the programs that made it
"""
import argparse
import hashlib
import json
import pathlib
import sys

import gguf
import numpy as np
import tokenizers
import torch
import transformers

HERE = pathlib.Path(__file__).resolve().parent
TEXT = "newton_opticks.txt"
TOP_POSITION = 1000
TOP_COUNT = 20
GREEDY_STEPS = 32
CONVERSATIONS = [  # chosen for a wide lead of each token over the runner-up
    [("user", "Count from 1 to 20.")],
    [("system", "You are a patient teacher of physics."), ("user", "What is the speed of light in a vacuum?")],
]
DEFAULT_SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"


def dequantize(tensor):
    """The tensor's values, [rows, columns], from the definition of its GGUF block format."""
    kind = tensor.tensor_type.name
    columns = int(tensor.shape[0])
    rows = int(np.prod(tensor.shape[1:]))
    data = np.asarray(tensor.data)
    if kind == "F32":
        return data.astype(np.float32).reshape(rows, columns)
    blocks = data.view(np.uint8).reshape(-1, {"Q8_0": 34, "Q4_1": 20}[kind])
    scale = blocks[:, 0:2].copy().view(np.float16).astype(np.float32)
    if kind == "Q8_0":
        values = scale * blocks[:, 2:].view(np.int8).astype(np.float32)
    else:
        minimum = blocks[:, 2:4].copy().view(np.float16).astype(np.float32)
        nibbles = np.concatenate([blocks[:, 4:] & 15, blocks[:, 4:] >> 4], axis=1)
        values = scale * nibbles.astype(np.float32) + minimum
    return values.reshape(rows, columns)


def halves_order(rows, heads):
    """Undoes GGUF's interleaving of Llama's Q and K rows: pair d of a head goes back to rows d and d + head_dim / 2."""
    width = rows.shape[0] // heads
    order = [head * width + 2 * pair + half for head in range(heads) for half in range(2) for pair in range(width // 2)]
    return rows[order]


def check_weights(model, reader, heads, kv_heads):
    """Compares every weight of `model` with our own reading of the file; ends the program at the first difference."""
    names = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj",
             "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
             "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
    weights = model.state_dict()
    unseen = set(weights)
    for tensor in reader.tensors:
        parts = tensor.name.split(".")
        if parts[0] == "blk":
            name = f"model.layers.{parts[1]}.{names[parts[2]]}.weight"
        else:
            name = {"token_embd": "model.embed_tokens.weight", "output_norm": "model.norm.weight"}[parts[0]]
        expected = dequantize(tensor)
        if parts[-2] == "attn_q":
            expected = halves_order(expected, heads)
        if parts[-2] == "attn_k":
            expected = halves_order(expected, kv_heads)
        unseen.discard(name)
        actual = weights[name].numpy().reshape(expected.shape)
        if not np.array_equal(actual, expected):
            sys.exit(f"{name} differs from the file by up to {np.abs(actual - expected).max()}")
    if not torch.equal(weights["lm_head.weight"], weights["model.embed_tokens.weight"]):
        sys.exit("the output matrix is not tied to the embedding")
    if unseen != {"lm_head.weight"}:
        sys.exit(f"weights that the file does not have: {sorted(unseen)}")


def string_list(reader, key):
    field = reader.fields[key]
    return [bytes(field.parts[index]).decode() for index in field.data]


def make_tokenizer(reader):
    tokens = string_list(reader, "tokenizer.ggml.tokens")
    merges = [tuple(merge.split(" ")) for merge in string_list(reader, "tokenizer.ggml.merges")]
    types = reader.fields["tokenizer.ggml.token_type"]
    special = [tokens[i] for i, index in enumerate(types.data) if int(types.parts[index][0]) == 3]
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([
        tokenizers.pre_tokenizers.Digits(individual_digits=True),
        tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.add_special_tokens([tokenizers.AddedToken(token, special=True, normalized=False) for token in special])
    return tokenizer


def render(conversation):
    """ChatML as SmolLM2's template renders it, ready for the assistant's next turn."""
    if conversation[0][0] != "system":
        conversation = [("system", DEFAULT_SYSTEM)] + conversation
    turns = "".join(f"<|im_start|>{role}\n{content}<|im_end|>\n" for role, content in conversation)
    return turns + "<|im_start|>assistant\n"


def log_softmax(logits):
    return torch.log_softmax(logits.double(), dim=-1)


def rounded(values):
    return [round(float(value), 5) for value in values]


def greedy(model, tokenizer, conversation):
    text = render(conversation)
    prompt = tokenizer.encode(text, add_special_tokens=False).ids
    ids, logprobs, margins = list(prompt), [], []
    for _ in range(GREEDY_STEPS):  # without a cache: each step reads everything anew
        best = log_softmax(model(torch.tensor([ids])).logits[0, -1]).topk(2)
        ids.append(int(best.indices[0]))
        logprobs.append(best.values[0])
        margins.append(best.values[0] - best.values[1])
    continuation = ids[len(prompt):]
    return {"prompt": text, "prompt_tokens": prompt, "continuation_tokens": continuation,
            "continuation": tokenizer.decode(continuation, skip_special_tokens=False),
            "logprobs": rounded(logprobs), "margins": rounded(margins)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path, help="SmolLM2-135M-Instruct.Q4_1.gguf")
    parser.add_argument("--output", type=pathlib.Path, default=HERE / "smollm2_logprobs.json")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    reader = gguf.GGUFReader(arguments.model)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        str(arguments.model.parent), gguf_file=arguments.model.name, torch_dtype=torch.float32,
        attn_implementation="eager").eval()
    config = model.config
    # The file has no output matrix, which means that it is the embedding's; this transformers invents a random one.
    config.tie_word_embeddings = True
    model.tie_weights()
    expected = {"hidden_size": 576, "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,
                "intermediate_size": 1536, "vocab_size": 49152, "rope_theta": 100000.0, "hidden_act": "silu"}
    for name, value in expected.items():
        if getattr(config, name) != value:
            sys.exit(f"transformers took {name} as {getattr(config, name)}, the file says {value}")
    if abs(config.rms_norm_eps - 1e-5) > 1e-11:
        sys.exit(f"transformers took rms_norm_eps as {config.rms_norm_eps}")
    check_weights(model, reader, config.num_attention_heads, config.num_key_value_heads)

    tokenizer = make_tokenizer(reader)
    text = (HERE / TEXT).read_text(encoding="utf-8")
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    if tokenizer.decode(ids) != text:
        sys.exit("the tokens do not spell the text")
    with torch.no_grad():
        every = log_softmax(model(torch.tensor([ids])).logits[0])
        logprobs = every[torch.arange(len(ids) - 1), torch.tensor(ids[1:])]
        top = every[TOP_POSITION - 1].topk(TOP_COUNT)
        continuations = [greedy(model, tokenizer, conversation) for conversation in CONVERSATIONS]

    golden = {
        "model": arguments.model.name,
        "model_sha256": hashlib.sha256(arguments.model.read_bytes()).hexdigest(),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__,
                     "tokenizers": tokenizers.__version__, "gguf": "0.10.0"},
        "text": TEXT,
        "text_sha256": hashlib.sha256(text.encode()).hexdigest(),
        "tokens": ids,
        "logprobs": rounded(logprobs),
        "top": {"position": TOP_POSITION, "tokens": top.indices.tolist(), "logprobs": rounded(top.values)},
        "greedy": continuations,
    }
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in golden.items())
    arguments.output.write_text("{" + lines + "}\n", encoding="utf-8")
    print(f"{len(ids)} tokens, mean log-probability {float(logprobs.mean()):.5f}, {arguments.output.stat().st_size} bytes")
    for continuation in continuations:
        print(f"margin at least {min(continuation['margins'])}: {continuation['continuation']!r}")


if __name__ == "__main__":
    main()
