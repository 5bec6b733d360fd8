"""scripts/bench decoding: what rows of a batch, speculation and keys in 8 bits cost and bring, at the Gemma 2 2B shape.

Everything is measured with gemma-generate alone; runs that are compared follow one another.
"""
import argparse
import json
import math
import os
import statistics
import sys

from benchmarks.measure import markdown, records, run, spread
from benchmarks.text import processor

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SHIPPED = os.path.join(ROOT, "examples", "models", "tiny-gemma")
EVAL = os.path.join(ROOT, "tests", "data", "tiny-gemma-eval.jsonl")
ROWS = (1, 2, 4, 8, 16)
CONTEXTS = (1000, 4000, 8000)


def arguments(argv):
    p = argparse.ArgumentParser(prog="scripts/bench decoding")
    p.add_argument("--model", help="a Gemma folder (default: one of the Gemma 2 2B shape with random weights, made once in .cache/)")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--tokens", type=int, default=24, help="tokens to decode")
    p.add_argument("--build", default=os.path.join(ROOT, "build", "release"))
    p.add_argument("--only", choices=("rows", "speculation", "cache"), help="one table")
    p.add_argument("--contexts", type=lambda text: [int(n) for n in text.split(",")], default=CONTEXTS,
                   help="of the last table, with commas between (1000,4000,8000: several minutes, most of them for the prompts)")
    p.add_argument("--output", help="also write the tables here")
    return p.parse_args(argv)


def ask(a, model, jobs, *flags):
    """Records of jobs, in order."""
    lines = "".join(json.dumps({"id": i, "raw": True, **job}) + "\n" for i, job in enumerate(jobs))
    command = [os.path.join(a.build, "bin", "gemma-generate"), "--model", model, "--threads", str(a.threads), "--jobs", "-", *flags]
    text, _, rss = run(command, stdin=lines)
    found = records(text)
    for record in found:
        if "error" in record:
            raise SystemExit(f"bench: error: {record}")
    return found, rss


def rows_table(a):
    """Seconds of a decoding step by the number of rows in it."""
    seconds = {n: [] for n in ROWS}
    for _ in range(a.rounds):
        for n in ROWS:
            # One candidate set with one prompt: all rows begin and end together.
            found, _ = ask(a, a.model, [{"prompt": "a a a a", "max_tokens": a.tokens, "temperature": 1, "top_k": 64, "count": n, "seed": 1}],
                           "--batch-size", str(n))
            steps = max(r["usage"]["completion_tokens"] for r in found) - 1
            seconds[n].append(max(r["timings"]["decode_s"] for r in found) / max(1, steps))
    one = seconds[1]
    lines = [(n, f"{spread([1000 * s for s in seconds[n]])} ms", f"{statistics.median(s / o for s, o in zip(seconds[n], one)):.2f} x",
              f"{n / statistics.median(seconds[n]):.1f}") for n in ROWS]
    return markdown(("rows", "a step", "of one row's", "tokens a second"), lines)


def speculation_table(a):
    """Look-up where the text repeats itself, and where nothing can be found."""
    cycle = " ".join(f"a{i}" for i in range(12))
    cases = [("greedy, a text that repeats itself", {"prompt": " ".join([cycle] * 6), "temperature": 0}),
             ("drawn from nearly all tokens: nothing repeats", {"prompt": cycle, "temperature": 5, "top_k": 0, "top_p": 1, "seed": 1})]
    rows = []
    for name, job in cases:
        job = {**job, "max_tokens": a.tokens * 2}
        plain, fast = [], []
        for _ in range(a.rounds):
            for n, into in ((0, plain), (8, fast)):
                found, _ = ask(a, a.model, [{**job, "speculate": n}], "--batch-size", "1")
                into.append(found[0])
        if any(p["token_ids"] != f["token_ids"] for p, f in zip(plain, fast)):
            raise SystemExit("bench: error: speculation changed a text")
        times = [[r["timings"]["decode_s"] for r in side] for side in (plain, fast)]
        timings = fast[0]["timings"]
        rows.append((name, f"{spread(times[0])} s", f"{spread(times[1])} s", f"{statistics.median(p / f for p, f in zip(*times)):.2f} x",
                     f"{timings['accepted_tokens']} of {timings['proposed_tokens']}", plain[0]["usage"]["completion_tokens"]))
    return markdown(("", "without", "`--speculate 8`", "faster by", "right", "tokens"), rows)


def divergence(a):
    """Mean and greatest KL divergence of next-token distributions, full against 8 bits, on texts of the shipped model."""
    with open(EVAL, encoding="utf-8") as f:
        turns = [json.loads(line)["messages"] for line in f]
    texts = ["\n".join(m["content"] for m in messages) for messages in turns]
    texts = ["\n".join(texts[i:i + 20]) for i in range(0, len(texts), 20)]
    jobs = [{"prompt": text, "score": True, "logprobs": 1000, "truncate": "tail"} for text in texts]
    full, coded = (ask(a, SHIPPED, jobs, "--kv-cache", kind, "--dtype", "bf16")[0] for kind in ("auto", "int8"))
    found, same = [], 0
    for p_record, q_record in zip(full, coded):
        for p, q in zip(p_record["logprobs"], q_record["logprobs"]):
            other = {t["id"]: t["logprob"] for t in q["top"]}
            least = min(other.values())
            found.append(sum(math.exp(t["logprob"]) * (t["logprob"] - other.get(t["id"], least)) for t in p["top"]))
            same += p["top"][0]["id"] == q["top"][0]["id"]
    perplexities = [math.exp(-statistics.mean(e["logprob"] for r in side for e in r["logprobs"])) for side in (full, coded)]
    return found, same / len(found), perplexities


def cache_table(a):
    found, same, perplexities = divergence(a)
    found.sort()
    lines = [f"tiny-gemma, bf16, {len(found)} positions of its evaluation texts in contexts of up to 1,024 tokens: KL divergence of the next token's "
             f"distribution from that with the full cache {statistics.mean(found):.2e} nats on average, {found[int(0.99 * len(found))]:.2e} at the 99th percentile; "
             f"the most likely token is the same at {100 * same:.2f} % of them; perplexity {perplexities[0]:.4f}, with 8 bits {perplexities[1]:.4f}.", ""]
    rows = []
    for context in a.contexts:
        times, peaks = {}, {}
        for kind in ("auto", "int8"):
            found, peaks[kind] = ask(a, a.model, [{"prompt": " a" * (context - 1), "max_tokens": a.tokens, "temperature": 0}], "--kv-cache", kind)
            times[kind] = found[0]["timings"]["decode_s"] / max(1, found[0]["usage"]["completion_tokens"] - 1)
        rows.append((context, *(f"{1000 * times[k]:.0f} ms" for k in times), f"{times['auto'] / times['int8']:.2f} x",
                     *(f"{peaks[k] / 2**30:.2f} GiB" for k in peaks)))
    lines.append(markdown(("context", "a token, full", "a token, 8 bits", "faster by", "peak, full", "peak, 8 bits"), rows))
    return "\n".join(lines)


TABLES = {"rows": ("Rows of a step", rows_table), "speculation": ("Speculation by look-up", speculation_table), "cache": ("Keys and values in 8 bits", cache_table)}


def main(argv):
    a = arguments(argv)
    if not a.model:
        from benchmarks import random_gemma
        a.model = os.path.join(ROOT, ".cache", "bench", "gemma2-2b")
        if not os.path.isdir(a.model):
            print("making random weights of the Gemma 2 2B shape (5.2 GB) in .cache/bench ...", file=sys.stderr)
            random_gemma.make(a.model, SHIPPED)
    parts = [f"Gemma 2 2B shape, bf16, {a.threads} threads, {processor()}; {a.rounds} rounds, median (least–most)."]
    for name, (title, make) in TABLES.items():
        if a.only in (None, name):
            parts += [f"### {title}", make(a)]
            print(parts[-2] + "\n\n" + parts[-1] + "\n", flush=True)
    if a.output:
        with open(a.output, "w", encoding="utf-8") as f:
            f.write("\n\n".join(parts) + "\n")
    return 0
