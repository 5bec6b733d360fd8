"""scripts/bench chat: what constraints, the prompt cache and long conversations cost.

Constraints and the prompt cache at the Gemma 2 2B shape with random weights, conversations on the model that ships.
"""
import argparse
import json
import os
import statistics
import sys
import tempfile

from benchmarks.measure import markdown, records, run, spread
from benchmarks.text import processor

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SHIPPED = os.path.join(ROOT, "examples", "models", "tiny-gemma")
CONSTRAINTS = {
    "`--json-object`": {"json_object": True},
    "a schema": {"json_schema": {
        "type": "object", "required": ["name", "tags", "size"], "additionalProperties": False, "properties": {
            "name": {"type": "string", "maxLength": 40},
            "tags": {"type": "array", "items": {"type": "string", "pattern": "^[a-z]+(-[a-z]+)*$"}, "minItems": 1, "maxItems": 8},
            "size": {"type": "object", "properties": {"width": {"type": "integer", "minimum": 1, "maximum": 4096},
                                                      "unit": {"enum": ["px", "mm", "in"]}}, "required": ["width"]}}}},
    "`--regex`": {"regex": r"([A-Z][a-z]+ ){3,20}\(\d{4}-\d{2}-\d{2}\)"},
}
WARM_UPS, MEASURED = 2, 3  # results of each constraint
PARTS = ("constraints", "cache", "turns")


def arguments(argv):
    p = argparse.ArgumentParser(prog="scripts/bench chat")
    p.add_argument("--model", help="a Gemma folder (default: one of the Gemma 2 2B shape with random weights, made once in .cache/)")
    p.add_argument("--rounds", type=int, default=3, help="of the prompt cache: with and without it, this often")
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--decode", type=int, default=48, help="tokens of a constrained text")
    p.add_argument("--system-tokens", type=int, default=2000)
    p.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    p.add_argument("--build", default=os.path.join(ROOT, "build", "release"))
    p.add_argument("--output", help="also write the tables here")
    return p.parse_args(argv)


def constraints(a):
    """Time spent on masks beside all of decoding: while the tables are filled, and after that."""
    each = WARM_UPS + MEASURED
    jobs = [{"id": f"{name} {i}", "prompt": "Give me an example.", "seed": i, "max_tokens": a.decode, "temperature": 1.5, **flags}
            for name, flags in CONSTRAINTS.items() for i in range(each)]
    text, _, _ = run([os.path.join(a.build, "bin", "gemma-generate"), "--model", a.model, "--threads", str(a.threads), "--jobs", "-",
                      "--batch-size", "1", "--quiet"], stdin="".join(json.dumps(job) + "\n" for job in jobs))
    got, rows = records(text), []
    for i, name in enumerate(CONSTRAINTS):
        mine = got[i * each:(i + 1) * each]
        for record in mine:
            if "error" in record:
                raise SystemExit(f"bench: error: {record}")

        def share(some):
            return sum(r["timings"]["constraint_s"] for r in some) / sum(r["timings"]["decode_s"] for r in some)
        warm = mine[WARM_UPS:]
        tokens = sum(r["usage"]["completion_tokens"] for r in warm)
        rows.append((name, f"{100 * share(mine[:1]):.1f} %", f"{100 * share(warm):.2f} %",
                     f"{1000 * sum(r['timings']['constraint_s'] for r in warm) / tokens:.2f} ms",
                     f"{1000 * sum(r['timings']['decode_s'] for r in warm) / tokens:.0f} ms", tokens))
    return "\n".join([
        f"Constrained decoding, {vocabulary(a.model)} pieces: the share of decoding that masks take, in the first text of a constraint and "
        f"after {WARM_UPS} of them; random weights, so strings are of random pieces.", "",
        markdown(("", "first text", "after warm-up", "mask, per token", "decoding, per token", "tokens"), rows), ""])


def vocabulary(model):
    with open(os.path.join(model, "config.json"), encoding="utf-8") as f:
        return f"{json.load(f)['vocab_size']:,}"


def cache(a):
    """From the command to the first token, and the prompt's part of it, without a prompt cache and with one that is full."""
    command = [os.path.join(a.build, "bin", "gemma-generate"), "--model", a.model, "--threads", str(a.threads), "--json", "--quiet",
               "--chat", "--system", " a" * a.system_tokens, "-p", "And now?", "-n", "1", "--seed", "1"]
    found = {"without": [], "with": []}
    with tempfile.TemporaryDirectory() as folder:
        cached = command + ["--prompt-cache", os.path.join(folder, "cache")]
        run(cached)
        size = sum(os.path.getsize(os.path.join(path, f)) for path, _, files in os.walk(folder) for f in files)
        for _ in range(a.rounds):
            for who, line in (("without", command), ("with", cached)):
                text, seconds, _ = run(line)
                found[who].append((seconds, records(text)[0]))
    rows = []
    for name, value in (("from the command to the first token", lambda s, r: s), ("the prompt", lambda s, r: r["timings"]["prefill_s"])):
        plain, quick = ([value(*one) for one in found[who]] for who in ("without", "with"))
        factor = statistics.median(p / q for p, q in zip(plain, quick))
        rows.append((name, f"{spread(plain)} s", f"{spread(quick)} s", f"{factor:.1f} x"))
    usage = found["with"][0][1]["usage"]
    return "\n".join([
        f"Prompt cache: {usage['prompt_tokens']} tokens, {usage['cached_tokens']} of them in the cache ({size / 2**20:.0f} MiB on disk); "
        f"{a.rounds} alternate runs, median (least–most).", "",
        markdown(("", "without", "with `--prompt-cache`", "ratio"), rows), ""])


def turns(a):
    """Peak memory of conversations of the shipped model, far beyond its context."""
    rows = []
    for count in (50, 200, 800):
        lines = "".join(f"Write a caption for a picture of a large yellow diamond number {i}.\n" for i in range(count))
        text, seconds, rss = run([os.path.join(a.build, "bin", "gemma-chat"), "--model", SHIPPED, "--threads", "1", "--seed", "1", "--json",
                                  "--quiet", "-n", "12"], stdin=lines)
        usage = [record["usage"] for record in records(text)]
        new = sum(u["prompt_tokens"] - u["cached_tokens"] for u in usage) / count
        rows.append((count, f"{rss / 2**20:.1f} MiB", f"{new:.0f} of {sum(u['prompt_tokens'] for u in usage) / count:.0f}", f"{1000 * seconds / count:.0f} ms"))
    return "\n".join(["Conversations of the shipped model (context 1,024), one process each.", "",
                      markdown(("turns", "peak memory", "tokens computed of a prompt", "time per turn"), rows), ""])


def main(argv):
    a = arguments(argv)
    if not a.model and {"constraints", "cache"} & set(a.parts):
        from benchmarks import random_gemma
        a.model = os.path.join(ROOT, ".cache", "bench", "gemma2-2b")
        if not os.path.isdir(a.model):
            print("making random weights of the Gemma 2 2B shape (5.2 GB) in .cache/bench ...", file=sys.stderr)
            random_gemma.make(a.model, SHIPPED)
    texts = [f"{a.threads} threads, {processor()}. Constraints and prompt cache at the Gemma 2 2B shape, bf16, random weights.\n"]
    for part in PARTS:
        if part in a.parts:
            texts.append({"constraints": constraints, "cache": cache, "turns": turns}[part](a))
            print(texts[-1], file=sys.stderr)
    text = "\n".join(texts)
    print(text)
    if a.output:
        with open(a.output, "w", encoding="utf-8") as f:
            f.write(text)
    return 0
