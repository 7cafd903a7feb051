#!/usr/bin/env python3
"""Writes smollm2_tokenizer.json: what an independent program makes of texts, tokens and conversations.

  python3.11 -m venv VENV
  VENV/bin/pip install tokenizers==0.23.3 gguf==0.19.0 jinja2==3.1.6 numpy==2.4.6
  VENV/bin/python make_tokenizer_golden.py MODEL.gguf

Tokens are those of the `tokenizers` library, given the vocabulary and merges of the GGUF file of
SmolLM2-135M-Instruct and the pre-tokenizer of SmolLM2's own tokenizer.json (each digit alone, then GPT-2's pattern).
The tokenizer that transformers makes of a GGUF file is not used: it leaves out the splitting of digits.
Conversations are the file's own template, rendered by Jinja2 as transformers does (trim_blocks, lstrip_blocks).

Contents of the JSON file:
  encode  texts with their tokens, first with the names of special tokens taken as plain text, then, in `special`, as
          special tokens; `special` is left out where it is the same
  decode  token sequences, many of them cut inside characters, with their text
  chat    conversations: messages; `earlier` messages at their beginning that were rendered before; whether the model
          shall answer; what is rendered after the earlier part, and its tokens
"""
import argparse
import json
import pathlib
import random

import gguf
import jinja2
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

OUTPUT = pathlib.Path(__file__).resolve().parent / "smollm2_tokenizer.json"
CONTROL_TOKEN = 3

SENTENCES = [
    "",
    " ",
    "Hello, world!",
    "The quick brown fox jumps over the lazy dog.",
    "I've said it's what they'll do; we're sure he'd've known, don't you?",
    "I'VE SAID IT'S NOT, DON'T. 'Tis 'twas 'r 're' 'l 'll' 'v 've",
    "rock'n'roll 's 't 'm 'd '' ''' 's's 't5 'r5 'l5 'v 5 '5",
    "it’s a “curly” quote — with dashes – and…",
    "In 1984, 3.14159 was 22/7; call +44 20 7946 0958 at 10:30am on 2024-02-29.",
    "0 00 000 1 12 123 1234 12345 1e10 0x1F 1_000",
    "x = 5;y=6 ; z =7",
    "for (int i = 0; i < n; ++i) {\n\tsum += a[i] * b[i];\n}\n",
    "def f(x):\n    if x > 0:\n        return x\n    else:\n        return -x\n",
    '{"key": [1, 2.5, null, true], "nested": {"a": "b\\n"}}',
    "<html>\n  <body class='x'>&nbsp;</body>\n</html>",
    "SELECT * FROM t WHERE a = 'b' AND c <> 3; -- comment",
    "#!/bin/bash\nset -euo pipefail\necho \"$HOME\" | sed 's/a/b/g'",
    "https://example.org/a/b?c=d&e=f#g user@example.com",
    "   leading",
    "trailing   ",
    "in   the    middle     of",
    "tabs\t\tand\ttabs\t",
    "lines\n\n\nand\n lines \n  more\r\n\r\nend",
    " \t \n \t x",
    "\n",
    "\n\n 1",
    "   42",
    " \u00a0 no-break\u00a0space \u2003em\u2003 \u3000ideographic\u3000x\u202fy\u205fz\u1680w\u0085v\u2028u\u2029t",
    "zero\u200bwidth\u200djoin\ufeffers\u2060",
    "café naïve Ångström Straße Œuvre ﬁne ŉ ǅ",
    "cafe\u0301 nai\u0308ve o\u0302\u0323 \u0301alone a\u20dd",
    "Здравствуй, мир! Ёлка. Україна",
    "Γειά σου Κόσμε· ἀρχή",
    "שלום עולם! שָׁלוֹם",
    "مرحبا بالعالم، ١٢٣٤ ۴۵۶",
    "नमस्ते दुनिया १२३ क्षत्रिय",
    "สวัสดีชาวโลก ๑๒๓",
    "你好，世界！这是一个测试。一二三",
    "こんにちは世界。カタカナ ｶﾀｶﾅ ＡＢＣ１２３",
    "안녕하세요 세계 ᄒᆞᆫ글",
    "Ⅷ ⅷ ½ ² ³ ₄ ① ⒈ ㊿ 〇 〡 ৴ ௧ ፩ 𝟘𝟙 𐄇 🄀",
    "𝓗𝓮𝓵𝓵𝓸 𝔘𝔫𝔦 𐐷 𠀀𠀁",
    "😀 😃😄 👍🏽 👩‍👩‍👧‍👦 🇩🇪🇫🇷 ❤️ ☃ 🏴\U000e0067\U000e0062\U000e007f",
    "∑∏∫√∞≈≠≤≥ αβγ → ⇒ ∀x∈ℝ: x²≥0",
    "°C €5 £6 ¥7 ¢8 § ¶ © ® ™ µ ª º",
    "\x00\x01\x02 \x04 \x06 \x07\x08 \x0b\x0c \x0e \x13\x14\x16\x1d\x1e\x1f \x7f \x80\x9f",
    "a\x04b he\x13llo t\x06he",
    "\U0010ffff \ue000 \ufffd \ufffe \U000f1234 \U0001f9ff",
    "ᲀ Ჿ \u1c89\u1c8a \ua7cb \U00011de0 \U000323b0 \U00010d40",
    "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
    "<|endoftext|><|endoftext|> text <|endoftext|>",
    "<|im_start|<|im_start|>|> <|im_ end|> <|IM_END|> <|im_end|",
    "<repo_name>weir<file_sep>a.cc<reponame> <filename><gh_stars>5<issue_start><jupyter_code>x = 1<empty_output>",
    " <|im_end|> 's<|im_end|>'s  <|im_end|>  1",
    "a" * 300,
    " " * 130,
    "\n" * 70,
    "!" * 100,
    "ab" * 100,
    "-" * 33 + "=" * 65,
    "é" * 60,
    "中" * 60,
    "1" * 40,
    "supercalifragilisticexpialidocious antidisestablishmentarianism Donaudampfschifffahrtsgesellschaft",
]

FRAGMENTS = (
    "'s 't 're 've 'm 'll 'd ' 'r 'l 'v 'S ’s a b c The hello don ing tion é 中文 日本 שלום مر 1 23 ٣ Ⅷ ½ 👩‍👩‍👧 🇩🇪 ! ... == -> { } (\" _ "
    "<|im_start|> <|im_end|> <|im_ <|endoftext|> |> <"
).split() + [
    " ", " ", " ", "  ", "   ", "\n", "\n\n", "\t", "\r\n", " \n", "\u00a0", "\u2003", "e\u0301", "\u200b", "\u0300",
    "\x00", "\x04", "\x1d", "\x7f", "\U0001f600",
]  # fmt: skip


def random_texts(generator, count):
    """Texts of fragments that border on each other in every way."""
    texts = []
    for _ in range(count):
        parts = []
        for _ in range(generator.randint(1, 24)):
            if generator.random() < 0.85:
                parts.append(generator.choice(FRAGMENTS))
            else:
                block = generator.choice([0x21, 0xA0, 0x370, 0x400, 0x600, 0x900, 0x1E00, 0x2000, 0x3040, 0x4E00])
                parts.append(chr(block + generator.randrange(94)))
        texts.append("".join(parts))
    return texts


def random_tokens(generator, vocabulary, short_tokens, count):
    """Token sequences that break characters apart."""
    sequences = []
    for _ in range(count):
        length = generator.randint(1, 12)
        sequences.append(
            [
                generator.choice(short_tokens) if generator.random() < 0.8 else generator.randrange(vocabulary)
                for _ in range(length)
            ]
        )
    return sequences


CONVERSATIONS = [  # (messages, how many of them were rendered before, add_generation_prompt)
    ([("user", "Hi")], 0, True),
    ([("user", "Hi")], 0, False),
    ([("system", "Be brief."), ("user", "What is 2+2?")], 0, True),
    ([("system", "")], 0, True),
    ([("user", "")], 0, True),
    ([("user", "  spaces  \n"), ("assistant", "\n\nyes\n"), ("user", "\tmore")], 0, True),
    ([("user", "Hi"), ("assistant", "Hello!"), ("user", "Bye")], 2, True),
    ([("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello!"), ("system", "Now rhyme."), ("user", "Go")], 3, True),
    ([("assistant", "I speak first."), ("user", "No")], 0, True),
    ([("tool", "42"), ("critic of {{ things }}", "{% if %}")], 0, False),
    ([("user", "日本語 and 👍🏽 and {{ messages }}")], 0, True),
]  # fmt: skip


def make_tokenizer(tokens, merges, special):
    """The reference tokenizer; `special` are the names of the special tokens it recognises."""
    tokenizer = Tokenizer(
        models.BPE({token: i for i, token in enumerate(tokens)}, [tuple(merge.split(" ")) for merge in merges])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in special])
    return tokenizer


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", help="SmolLM2-135M-Instruct as a GGUF file")
    fields = gguf.GGUFReader(parser.parse_args().model).fields

    def value(key):
        return fields[key].contents()

    tokens = value("tokenizer.ggml.tokens")
    special = [t for t, kind in zip(tokens, value("tokenizer.ggml.token_type")) if kind == CONTROL_TOKEN]
    plain_tokenizer = make_tokenizer(tokens, value("tokenizer.ggml.merges"), [])
    tokenizer = make_tokenizer(tokens, value("tokenizer.ggml.merges"), special)
    generator = random.Random(20240406)

    encode = []
    for text in SENTENCES + random_texts(generator, 300):
        entry = {"text": text, "tokens": plain_tokenizer.encode(text, add_special_tokens=False).ids}
        with_special = tokenizer.encode(text, add_special_tokens=False).ids
        if with_special != entry["tokens"]:
            entry["special"] = with_special
        encode.append(entry)

    short_tokens = [i for i, token in enumerate(tokens) if len(token) <= 2]
    decode = [
        {"tokens": sequence, "text": tokenizer.decode(sequence, skip_special_tokens=False)}
        for sequence in random_tokens(generator, len(tokens), short_tokens, 150)
    ]

    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(value("tokenizer.chat_template"))
    chat = []
    for turns, earlier, add_generation_prompt in CONVERSATIONS:
        messages = [{"role": role, "content": content} for role, content in turns]
        whole = template.render(messages=messages, add_generation_prompt=add_generation_prompt)
        before = template.render(messages=messages[:earlier], add_generation_prompt=False)
        assert whole.startswith(before)
        rendered = whole[len(before) :]
        chat.append(
            {
                "messages": messages,
                "earlier": earlier,
                "add_generation_prompt": add_generation_prompt,
                "rendered": rendered,
                "tokens": tokenizer.encode(rendered, add_special_tokens=False).ids,
            }
        )

    groups = {"encode": encode, "decode": decode, "chat": chat}
    lines = [
        f' "{name}": [\n' + ",\n".join("  " + json.dumps(entry, separators=(",", ":")) for entry in entries) + "\n ]"
        for name, entries in groups.items()
    ]
    OUTPUT.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="ascii")


if __name__ == "__main__":
    main()
