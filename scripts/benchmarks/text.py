"""scripts/bench text: gemma-generate beside transformers at the Gemma 2 2B shape, bf16, and what starting costs."""
import argparse
import json
import os
import platform
import statistics
import sys
import time

from benchmarks.measure import markdown, ratio, records, run, spread

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PREFILL = (32, 512)


def arguments(argv):
    p = argparse.ArgumentParser(prog="scripts/bench text")
    p.add_argument("--model", help="a Gemma folder (default: one of the Gemma 2 2B shape with random weights, made once in .cache/)")
    p.add_argument("--rounds", type=int, default=5, help="ours and the peer alternately, this often")
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--decode", type=int, default=32, help="tokens to decode")
    p.add_argument("--build", default=os.path.join(ROOT, "build", "release"))
    p.add_argument("--output", help="also write the table here, and every single figure beside it as .jsonl")
    return p.parse_args(argv)


def prompt_of(tool, model, n):
    """A text of exactly n tokens with BOS: words that are one token each, counted by the tool's own tokenizer."""
    text = " a" * (n - 1)
    found = records(run([tool, "--model", model, "--raw", "--json", "-p", text, "-n", "0"])[0])[0]["usage"]["prompt_tokens"]
    if found != n:
        raise SystemExit(f"bench: error: the prompt has {found} tokens, not {n}")
    return text


def ours(tool, model, prompts, a):
    # The first job only warms up, as the peer's does.
    jobs = [{"prompt": "a a a a a a a a", "max_tokens": 1}] + [{"prompt": prompts[n], "max_tokens": 1} for n in PREFILL]
    jobs.append({"prompt": prompts[32], "max_tokens": a.decode + 1})
    lines = "".join(json.dumps({"id": i, "raw": True, "temperature": 0, **job}) + "\n" for i, job in enumerate(jobs))
    text, _, rss = run([tool, "--model", model, "--threads", str(a.threads), "--batch-size", "1", "--jobs", "-"], stdin=lines)
    got = records(text)
    for record in got:
        if "error" in record:
            raise SystemExit(f"bench: error: {record}")
    figures = {f"prefill_{n}": got[1 + i]["timings"]["prefill_tok_per_s"] for i, n in enumerate(PREFILL)}
    last = got[-1]
    # The first token of a reply comes out of the prompt's pass.
    figures["decode"] = (last["usage"]["completion_tokens"] - 1) / last["timings"]["decode_s"]
    figures["load_s"], figures["rss"] = last["timings"]["load_s"], rss
    start = time.perf_counter()
    run([tool, "--model", model, "--threads", str(a.threads), "--raw", "-p", prompts[32], "-n", "1"])
    figures["first_token_s"] = time.perf_counter() - start
    return figures


def theirs(model, a):
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "peer_transformers.py")
    text, _, rss = run([sys.executable, script, model, "--threads", str(a.threads), "--decode", str(a.decode), "--prefill",
                        *map(str, PREFILL)])
    return {**records(text)[-1], "rss": rss}


def startup(build, rounds=15):
    """gemma-generate --version beside a program that only links LibTorch, alternately: milliseconds."""
    tool, bare = os.path.join(build, "bin", "gemma-generate"), os.path.join(build, "bin", "torch_only")
    times = {tool: [], bare: []}
    for i in range(rounds + 2):
        for program in (tool, bare):
            seconds = run([program, "--version"])[1]
            if i >= 2:
                times[program].append(1000 * seconds)
    return times[tool], times[bare]


def processor():
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        names = [line.split(":", 1)[1].strip() for line in f if line.startswith("model name")]
    return f"{len(names)} x {names[0]}" if names else platform.machine()


def report(a, mine, peer, start, weights):
    def row(name, key, unit, better):
        us, them = [m[key] for m in mine], [p[key] for p in peer]
        factor = ratio(us, them) if better == "more" else ratio(them, us)
        return name, f"{spread(us)} {unit}", f"{spread(them)} {unit}", f"{factor:.2f} x"

    for side in (mine, peer):
        for figures in side:
            figures["rss_gib"] = figures["rss"] / 2**30
    rows = [row(f"prefill {n}", f"prefill_{n}", "tok/s", "more") for n in PREFILL]
    rows += [row("decode", "decode", "tok/s", "more"), row("peak memory", "rss_gib", "GiB", "less"), row("open", "load_s", "s", "less")]
    own, bare = start
    over = max(m["rss"] for m in mine) - weights
    return "\n".join([
        f"Gemma 2 2B shape, bf16, {a.threads} threads, {processor()}; LibTorch {peer[0]['torch']}, transformers "
        f"{peer[0]['transformers']} (eager); {a.rounds} alternate runs: median (least–most); ratios are medians of neighbouring runs.",
        "", markdown(("", "Atelier", "transformers", "Atelier is better by"), rows), "",
        f"Peak memory is the weights' {weights / 2**30:.2f} GiB and {over / 2**30:.2f} GiB more. From the command to the first token of "
        f"a 32-token prompt: {spread([m['first_token_s'] for m in mine])} s. transformers' time to open includes its imports.", "",
        f"`gemma-generate --version`: {spread(own)} ms; a program that only links LibTorch: {spread(bare)} ms; difference of the medians "
        f"{statistics.median(own) - statistics.median(bare):.1f} ms.", ""])


def main(argv):
    a = arguments(argv)
    tool = os.path.join(a.build, "bin", "gemma-generate")
    if not a.model:
        from benchmarks import random_gemma
        a.model = os.path.join(ROOT, ".cache", "bench", "gemma2-2b")
        if not os.path.isdir(a.model):
            print("making random weights of the Gemma 2 2B shape (5.2 GB) in .cache/bench ...", file=sys.stderr)
            random_gemma.make(a.model, os.path.join(ROOT, "examples", "models", "tiny-gemma"))
    weights = sum(os.path.getsize(os.path.join(a.model, f)) for f in os.listdir(a.model) if f.endswith(".safetensors"))
    prompts = {n: prompt_of(tool, a.model, n) for n in PREFILL}
    mine, peer = [], []
    for i in range(a.rounds):
        mine.append(ours(tool, a.model, prompts, a))
        peer.append(theirs(a.model, a))
        print(f"round {i + 1} of {a.rounds}: decode {mine[-1]['decode']:.2f} / {peer[-1]['decode']:.2f} tok/s", file=sys.stderr)
    text = report(a, mine, peer, startup(a.build), weights)
    print(text)
    if a.output:
        with open(a.output, "w", encoding="utf-8") as f:
            f.write(text)
        with open(os.path.splitext(a.output)[0] + ".jsonl", "w", encoding="utf-8") as f:
            for side, runs in (("atelier", mine), ("transformers", peer)):
                f.writelines(json.dumps({"who": side, **figures}) + "\n" for figures in runs)
    return 0
