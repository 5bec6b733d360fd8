"""scripts/bench finetune: gemma-finetune beside transformers + peft at the Gemma 2 2B shape: LoRA of rank 16 on all linear
maps, bf16, one row of 512 tokens a step, activation checkpointing; and what QLoRA needs.
"""
import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile

from benchmarks import random_gemma
from benchmarks.measure import markdown, ratio, records, run, spread
from benchmarks.text import processor

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def arguments(argv):
    p = argparse.ArgumentParser(prog="scripts/bench finetune")
    p.add_argument("--model", help="a Gemma folder (default: one of the Gemma 2 2B shape with random weights, made once in .cache/)")
    p.add_argument("--small", action="store_true", help="a small random model instead, to see whether all of it runs")
    p.add_argument("--rounds", type=int, default=3, help="ours and the peer alternately, this often")
    p.add_argument("--steps", type=int, default=4, help="steps of a run; the first one does not count")
    p.add_argument("--tokens", type=int, default=512)
    p.add_argument("--rank", type=int, default=16)
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--build", default=os.path.join(ROOT, "build", "release"))
    p.add_argument("--output", help="also write the table here, and every single figure beside it as .jsonl")
    return p.parse_args(argv)


def rows_of(tool, model, a, folder):
    """A file of rows of exactly `tokens` tokens, BOS and EOS among them; every position but the first is learnt."""
    path = os.path.join(folder, "rows.jsonl")
    with open(path, "w", encoding="utf-8") as f:
        f.writelines(json.dumps({"text": " a" * (a.tokens - 2)}) + "\n" for _ in range(a.steps))
    lengths = records(run([tool, "--model", model, "--data", path, "--check", "--json"])[0])[0]["lengths"]
    if lengths["min"] != a.tokens or lengths["max"] != a.tokens:
        raise SystemExit(f"bench: error: the rows have {lengths} tokens, not {a.tokens}")
    return path


def ours(tool, model, rows, a, method, folder):
    output = os.path.join(folder, "out")
    shutil.rmtree(output, ignore_errors=True)
    _, _, rss = run([tool, "--quiet", "--model", model, "--data", rows, "--output", output, "--method", method, "--rank", str(a.rank),
                     "--alpha", str(a.rank), "--steps", str(a.steps), "--max-seq-len", str(a.tokens), "--precision", "bf16",
                     "--grad-checkpointing", "--threads", str(a.threads), "--seed", "1", "--warmup", "0"])
    with open(os.path.join(output, "metrics.jsonl"), encoding="utf-8") as f:
        steps = [json.loads(line) for line in f]
    seconds = [a.tokens / s["tokens_per_s"] for s in steps if "tokens_per_s" in s][1:]
    return {"step_s": statistics.median(seconds), "rss": rss}


def theirs(model, a):
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "peer_peft.py")
    text, _, rss = run([sys.executable, script, model, "--threads", str(a.threads), "--tokens", str(a.tokens), "--rank",
                        str(a.rank), "--steps", str(a.steps)])
    return {**records(text)[-1], "rss": rss}


def report(a, mine, peer, qlora):
    def row(name, key, unit, scale=1):
        us, them = [m[key] / scale for m in mine], [p[key] / scale for p in peer]
        return name, f"{spread(us)} {unit}", f"{spread(them)} {unit}", f"{ratio(them, us):.2f} x"

    return "\n".join([
        f"LoRA, rank {a.rank}, bf16, 1 x {a.tokens} tokens, activation checkpointing, {a.threads} threads, {processor()}; LibTorch "
        f"{peer[0]['torch']}, transformers {peer[0]['transformers']}, peft {peer[0]['peft']}; {a.rounds} alternate runs of "
        f"{a.steps} steps: median (least–most); ratios are medians of neighbouring runs.", "",
        markdown(("", "Atelier", "transformers + peft", "Atelier is better by"),
                 [row("step", "step_s", "s"), row("peak memory", "rss", "GB", 1e9)]), "",
        f"QLoRA, the same otherwise: {qlora['step_s']:.3g} s a step, peak memory {qlora['rss'] / 1e9:.2f} GB.", ""])


def main(argv):
    a = arguments(argv)
    tool = os.path.join(a.build, "bin", "gemma-finetune")
    if not a.model:
        a.model = os.path.join(ROOT, ".cache", "bench", "gemma2-small" if a.small else "gemma2-2b")
        if not os.path.isdir(a.model):
            print(f"making random weights in {a.model} ...", file=sys.stderr)
            random_gemma.make(a.model, os.path.join(ROOT, "examples", "models", "tiny-gemma"),
                              random_gemma.SMALL if a.small else random_gemma.CONFIG)
    mine, peer = [], []
    with tempfile.TemporaryDirectory() as folder:
        rows = rows_of(tool, a.model, a, folder)
        for i in range(a.rounds):
            mine.append(ours(tool, a.model, rows, a, "lora", folder))
            peer.append(theirs(a.model, a))
            print(f"round {i + 1} of {a.rounds}: {mine[-1]['step_s']:.3g} / {peer[-1]['step_s']:.3g} s", file=sys.stderr)
        qlora = ours(tool, a.model, rows, a, "qlora", folder)
    text = report(a, mine, peer, qlora)
    print(text)
    if a.output:
        with open(a.output, "w", encoding="utf-8") as f:
            f.write(text)
        with open(os.path.splitext(a.output)[0] + ".jsonl", "w", encoding="utf-8") as f:
            for who, runs in (("atelier", mine), ("peft", peer), ("atelier qlora", [qlora])):
                f.writelines(json.dumps({"who": who, **figures}) + "\n" for figures in runs)
    return 0
