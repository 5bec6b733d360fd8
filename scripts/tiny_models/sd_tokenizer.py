"""A tokenizer in CLIP's format (vocab.json, merges.txt) for the tiny image model: few merges, any text.

Learned by byte-pair encoding from the captions and from everyday words: bytes, bytes that end a word, merges, and the
two marks at the end, as CLIP lays them out.
"""
import collections
import json
import random

from .captions import caption, sample_caption_scene
from .corpus import ENGLISH

MERGES = 700
START, END = "<|startoftext|>", "<|endoftext|>"
LENGTH = 77


def byte_characters():
    """A printable character for every byte, as in GPT-2's and CLIP's vocabularies."""
    plain = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)]
    other = [b for b in range(256) if b not in plain]
    table = {b: chr(b) for b in plain}
    table.update({b: chr(256 + n) for n, b in enumerate(other)})
    return [table[b] for b in plain + other]


def word_counts(seed):
    """How often each word comes; the captions' words most."""
    rng = random.Random(f"clip tokenizer {seed}")
    counts = collections.Counter()
    for _ in range(4000):
        counts.update(caption(sample_caption_scene(rng, False)).split())
    for rank, word in enumerate(ENGLISH.lower().split()):
        counts[word] += max(1, 40 - rank // 15)
    return counts


def learn_merges(counts, limit):
    """The most frequent pairs, joined one after the other."""
    words = {tuple(w[:-1]) + (w[-1] + "</w>",): n for w, n in counts.items() if w.isascii()}
    merges = []
    while len(merges) < limit:
        pairs = collections.Counter()
        for parts, n in words.items():
            for pair in zip(parts, parts[1:]):
                pairs[pair] += n
        if not pairs:
            break
        best = min(pairs, key=lambda p: (-pairs[p], p))
        merges.append(best)
        words = {_joined(parts, best): n for parts, n in words.items()}
    return merges


def _joined(parts, pair):
    out, i = [], 0
    while i < len(parts):
        if parts[i:i + 2] == pair:
            out.append(pair[0] + pair[1])
            i += 2
        else:
            out.append(parts[i])
            i += 1
    return tuple(out)


def write_tokenizer(folder, seed=0):
    """Write the files of a CLIPTokenizer folder; returns the size of the vocabulary."""
    folder.mkdir(parents=True, exist_ok=True)
    merges = learn_merges(word_counts(seed), MERGES)
    letters = byte_characters()
    pieces = letters + [c + "</w>" for c in letters] + [a + b for a, b in merges] + [START, END]
    vocabulary = {p: i for i, p in enumerate(dict.fromkeys(pieces))}
    dump = dict(ensure_ascii=False, indent=None, separators=(",", ":"))
    (folder / "vocab.json").write_text(json.dumps(vocabulary, **dump) + "\n", encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges), encoding="utf-8")
    token = lambda text: {"content": text, "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}  # noqa: E731
    (folder / "special_tokens_map.json").write_text(json.dumps(
        {"bos_token": token(START), "eos_token": token(END), "pad_token": END, "unk_token": token(END)}, indent=2) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps(
        {"add_prefix_space": False, "bos_token": START, "do_lower_case": True, "eos_token": END, "errors": "replace",
         "model_max_length": LENGTH, "pad_token": END, "tokenizer_class": "CLIPTokenizer", "unk_token": END}, indent=2) + "\n")
    return len(vocabulary)
