"""Writes unicode_ranges.cc: the character classes that pre-tokenisation tells apart.

The classes are read from the reference implementation itself (Hugging Face tokenizers), whose
regular expressions and digit splitter follow different versions of Unicode: letters are \\p{L} of
the former, numbers are what the latter isolates, white space is \\s. Versions used:
tokenizers 0.23.3 (pip install tokenizers==0.23.3), Python 3.11. Usage:

    python3 make_unicode_ranges.py > unicode_ranges.cc
"""

from tokenizers import Regex, pre_tokenizers

_CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]


def matching(splitter):
    """The code points that `splitter` isolates from an unrelated character before them."""
    return [c for c in _CODE_POINTS if c != 1 and len(splitter.pre_tokenize_str("\x01" + chr(c))) == 2]


def ranges(code_points):
    """Inclusive ranges of consecutive code points."""
    result = []
    for c in code_points:
        if result and result[-1][1] == c - 1:
            result[-1][1] = c
        else:
            result.append([c, c])
    return result


def table(name, code_points):
    """A C++ array of those ranges."""
    found = ranges(code_points)
    lines = [f"constexpr CodePointRange k{name}[] = {{"]
    for i in range(0, len(found), 5):
        lines.append("    " + " ".join(f"{{0x{a:04x}, 0x{b:04x}}}," for a, b in found[i : i + 5]))
    lines.append("};")
    return "\n".join(lines)


def main():
    letters = matching(pre_tokenizers.Split(Regex(r"\p{L}"), "isolated"))
    numbers = matching(pre_tokenizers.Digits(individual_digits=True))
    spaces = matching(pre_tokenizers.Split(Regex(r"\s"), "isolated"))
    print("// Made by make_unicode_ranges.py; do not edit.\n")
    print("// clang-format off\n")
    print('#include "worker/model/unicode_ranges.h"\n')
    print("namespace weir {\nnamespace {\n")
    for name, code_points in [("Letters", letters), ("Numbers", numbers), ("Spaces", spaces)]:
        print(table(name, code_points) + "\n")
    print("}  // namespace\n")
    for name in ["Letter", "Number", "Space"]:
        print(f"absl::Span<const CodePointRange> {name}Ranges() {{ return k{name}s; }}")
    print("\n}  // namespace weir")


if __name__ == "__main__":
    main()
