"""scripts/bench sd-train: sd-train-lora beside diffusers + peft at the Stable Diffusion 1.5 shape: LoRA of rank 16 on the UNet's
attention, one picture of 512 x 512 a step, latents and embeddings of captions cached; activation checkpointing off and on, in bf16
and fp32.

Every single run goes to the record (--record) at once, so a measurement can be made in parts; the report is drawn from all of it.
"""
import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile

from benchmarks import random_sd
from benchmarks.measure import OutOfMemory, markdown, ratio, records, run, spread
from benchmarks.text import processor

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
HERE = os.path.dirname(os.path.abspath(__file__))
CACHE = os.path.join(ROOT, ".cache", "bench")
ROWS = ("bf16-checkpointing", "bf16", "fp32-checkpointing", "fp32")


def arguments(argv):
    p = argparse.ArgumentParser(prog="scripts/bench sd-train", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rows", default=",".join(ROWS), help="what to measure (default: %(default)s)")
    p.add_argument("--rounds", type=int, default=3, help="ours and the peer alternately, this often (default: %(default)s)")
    p.add_argument("--steps", type=int, default=4, help="steps of a run; the first one does not count (default: %(default)s)")
    p.add_argument("--model", help="a diffusers folder (default: one of the SD 1.5 shape with random weights, made once in .cache/)")
    p.add_argument("--small", action="store_true", help="a small random model instead, to see whether all of it runs")
    p.add_argument("--side", type=int, help="pixels (default: 512, with --small 64)")
    p.add_argument("--rank", type=int, default=16)
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--build", default=os.path.join(ROOT, "build", "release"))
    p.add_argument("--record", help="figures, one a line (default: docs/train-images-bench.jsonl; with --small or --model in .cache/bench)")
    p.add_argument("--report", help="the table drawn from them (default: the record's name with .md)")
    p.add_argument("--fresh", action="store_true", help="forget what the record has of these rows")
    p.add_argument("--report-only", action="store_true", help="measure nothing")
    a = p.parse_args(argv)
    a.rows = a.rows.split(",")
    wrong = [row for row in a.rows if row not in ROWS]
    if wrong:
        p.error(f"unknown row {wrong[0]}; known are {', '.join(ROWS)}")
    shape = "tiny" if a.small else "sd15"
    a.side = a.side or random_sd.SHAPES[shape]["side"]
    name = "train-small" if a.small else "train-" + os.path.basename(os.path.normpath(a.model)) if a.model else None
    a.record = a.record or (os.path.join(CACHE, name + ".jsonl") if name else os.path.join(ROOT, "docs", "train-images-bench.jsonl"))
    a.report = a.report or os.path.splitext(a.record)[0] + ".md"
    if not a.model:
        a.model = os.path.join(CACHE, shape)
        if not os.path.isdir(a.model) and not a.report_only:
            print(f"making random weights of the {shape} shape in .cache/bench ...", file=sys.stderr)
            os.makedirs(CACHE, exist_ok=True)
            random_sd.make(a.model, shape)
    return a


def picture(folder, side):
    """One picture with its caption."""
    import numpy as np
    from PIL import Image
    os.makedirs(folder)
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(os.path.join(folder, "a.png"))
    with open(os.path.join(folder, "a.txt"), "w", encoding="utf-8") as f:
        f.write("a cat in the sea")


def train(a, row, folder, steps):
    """A run; its lines of metrics.jsonl and peak memory."""
    dtype, _, checkpointing = row.partition("-")
    output = os.path.join(folder, "out.safetensors")
    shutil.rmtree(os.path.join(folder, "out.run"), ignore_errors=True)
    if os.path.exists(output):
        os.remove(output)
    _, _, rss = run([os.path.join(a.build, "bin", "sd-train-lora"), "--quiet", "--model", a.model, "--data",
                     os.path.join(folder, "data"), "--output", output, "--rank", str(a.rank), "--alpha", str(a.rank), "--steps",
                     str(steps), "--resolution", str(a.side), "--precision", dtype, "--threads", str(a.threads), "--seed", "1",
                     "--warmup", "0", "--cache-latents", "--cache-dir", os.path.join(folder, "cache-" + dtype),
                     *(["--grad-checkpointing"] if checkpointing else [])])
    with open(os.path.join(folder, "out.run", "metrics.jsonl"), encoding="utf-8") as f:
        return [json.loads(line) for line in f], rss


def ours(a, row, folder):
    train(a, row, folder, 1)  # fills the cache, which the peer does not have to
    lines, rss = train(a, row, folder, a.steps)
    done, seconds = 0, []
    for line in lines:
        if "tokens_per_s" in line:
            seconds.append((line["tokens"] - done) / line["tokens_per_s"])
            done = line["tokens"]
    return {"step_s": statistics.median(seconds[1:]), "rss_gib": rss / 2**30}


def theirs(a, row, folder):
    dtype, _, checkpointing = row.partition("-")
    text, _, rss = run([sys.executable, os.path.join(HERE, "peer_train_images.py"), a.model, "--threads", str(a.threads), "--side",
                        str(a.side), "--rank", str(a.rank), "--steps", str(a.steps), "--dtype", dtype,
                        *(["--checkpointing"] if checkpointing else [])], env={"HF_HUB_OFFLINE": "1"})
    return {**records(text)[-1], "rss_gib": rss / 2**30}


def read(path):
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as f:
        return [json.loads(line) for line in f if line.strip()]


def write(path, text):
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with open(path + ".partial", "w", encoding="utf-8") as f:
        f.write(text)
    os.replace(path + ".partial", path)


def lines_text(lines):
    return "".join(json.dumps(line) + "\n" for line in lines)


def measure(a):
    if a.fresh:
        write(a.record, lines_text(line for line in read(a.record) if line["row"] not in a.rows))
    with tempfile.TemporaryDirectory() as folder:
        picture(os.path.join(folder, "data"), a.side)
        for row in a.rows:
            for i in range(a.rounds):
                for who, side in (("atelier", ours), ("peft", theirs)):
                    try:
                        figures = side(a, row, folder)
                    except OutOfMemory:
                        figures = {"failed": "out of memory"}
                    line = {"row": row, "who": who, "side": a.side, "rank": a.rank, "threads": a.threads, "processor": processor(), **figures}
                    write(a.record, lines_text([*read(a.record), line]))
                    said = ", ".join(f"{key} {value:.3g}" for key, value in figures.items() if key in ("step_s", "rss_gib"))
                    print(f"{row}, round {i + 1}, {who}: {said or figures}", file=sys.stderr)


def report(a):
    lines, rows, facts = read(a.record), [], None
    for row in ROWS:
        us, them = ([line for line in lines if line["row"] == row and line["who"] == who and "failed" not in line]
                    for who in ("atelier", "peft"))
        pairs = min(len(us), len(them))
        if pairs == 0:
            continue
        facts = them[-1]
        for name, key, unit in (("step", "step_s", "s"), ("peak memory", "rss_gib", "GiB")):
            mine, peer = [x[key] for x in us[:pairs]], [x[key] for x in them[:pairs]]
            dtype, _, checkpointing = row.partition("-")
            rows.append((f"{dtype}, checkpointing {'on' if checkpointing else 'off'}: {name}", f"{spread(mine)} {unit}",
                         f"{spread(peer)} {unit}", f"{ratio(peer, mine):.2f} x"))
    if not facts:
        raise SystemExit(f"bench: error: {a.record} has no pair of runs")
    return "\n".join([
        f"LoRA, rank {facts['rank']}, on the UNet's attention, one picture of {facts['side']} x {facts['side']} a step, "
        f"{facts['threads']} threads, {facts['processor']}; LibTorch {facts['torch']}, diffusers {facts['diffusers']}, peft "
        f"{facts['peft']}; alternate runs: median (least–most); ratios are medians of neighbouring runs.", "",
        markdown(("", "Atelier", "diffusers + peft", "Atelier is better by"), rows), ""])


def main(argv):
    a = arguments(argv)
    if not a.report_only:
        measure(a)
    text = report(a)
    write(a.report, text)
    print(text)
    return 0
