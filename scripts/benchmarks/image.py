"""scripts/bench image: sd-txt2img beside diffusers at the shapes of Stable Diffusion 1.5 or XL with random weights."""
import argparse
import json
import os
import sys

from benchmarks.measure import markdown, ratio, records, run, spread
from benchmarks.text import processor

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
HERE = os.path.dirname(os.path.abspath(__file__))
PROMPT = "a cat in the sea"
ROWS = (("text encoding", "text_s", "s"), ("one step", "step_s", "s"), ("decoding", "decode_s", "s"), ("peak memory", "rss_gib", "GiB"),
        ("open", "load_s", "s"))


def arguments(argv):
    p = argparse.ArgumentParser(prog="scripts/bench image")
    p.add_argument("--shape", default="sd15", choices=("sd15", "sdxl", "tiny"), help="random weights, made once in .cache/bench")
    p.add_argument("--model", help="a diffusers folder instead")
    p.add_argument("--side", type=int, help="pixels (default: what the shape is made for)")
    p.add_argument("--steps", type=int, default=3, help="steps that are measured")
    p.add_argument("--dtypes", default="fp32,bf16")
    p.add_argument("--rounds", type=int, default=3, help="ours and the peer alternately, this often")
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--build", default=os.path.join(ROOT, "build", "release"))
    p.add_argument("--output", help="also write the table here, and every single figure beside it as .jsonl")
    p.add_argument("--no-previews", action="store_true", help="leave out what previews cost")
    return p.parse_args(argv)


def jobs(a, picture):
    """The first job only warms up, as the peer's does; jobs of one process share the model."""
    wanted = [{"steps": 1}, {"steps": a.steps}, {"steps": a.steps}]
    return "".join(json.dumps({"id": i, "prompt": PROMPT, "seed": 1, "output": picture, **job}) + "\n" for i, job in enumerate(wanted))


def ours(a, dtype, picture):
    tool = os.path.join(a.build, "bin", "sd-txt2img")
    command = [tool, "--model", a.model, "--dtype", dtype, "--threads", str(a.threads), "-W", str(a.side), "-H", str(a.side), "--quiet",
               "--jobs", "-"]
    text, _, rss = run(command, stdin=jobs(a, picture))
    got = records(text)
    for record in got:
        if "error" in record:
            raise SystemExit(f"bench: error: {record}")
    best = lambda key: min(record["timings"][key] for record in got[1:])
    return {"load_s": got[0]["timings"]["load_s"], "text_s": best("text_s"), "step_s": best("step_s"), "decode_s": best("decode_s"),
            "rss_gib": rss / 2**30}


def theirs(a, dtype):
    script = os.path.join(HERE, "peer_diffusers.py")
    text, _, rss = run([sys.executable, script, a.model, "--threads", str(a.threads), "--dtype", dtype, "--side", str(a.side), "--steps",
                        str(a.steps), "--prompt", PROMPT], env={"HF_HUB_OFFLINE": "1"})
    return {**records(text)[-1], "rss_gib": rss / 2**30}


def previews(a, picture, steps=50):
    """Share of the time that a preview every 5 steps adds to a picture of 50 steps: the same run with and without, alternately."""
    tool = os.path.join(a.build, "bin", "sd-txt2img")
    shares = []
    for _ in range(a.rounds):
        seconds = []
        for extra in ([], ["--preview", picture + ".preview.png"]):
            command = [tool, "--model", a.model, "--dtype", "fp32", "--threads", str(a.threads), "-W", str(a.side), "-H", str(a.side), "-p",
                       PROMPT, "-s", "1", "--steps", str(steps), "--quiet", "--json", "-o", picture, *extra]
            seconds.append(records(run(command)[0])[0]["timings"]["denoise_s"])
        shares.append(100 * (seconds[1] / seconds[0] - 1))
    return shares


def report(a, found, shares):
    peer = next(iter(found.values()))[1][0]
    lines = [f"{a.shape if not a.given else os.path.basename(a.model)} at {a.side}x{a.side}, {a.threads} threads, {processor()}; LibTorch "
             f"{peer['torch']}, diffusers {peer['diffusers']}; {a.rounds} alternate runs: median (least–most); ratios are medians of neighbouring "
             "runs. A step is one evaluation with guidance.", ""]
    rows = []
    for dtype, (mine, other) in found.items():
        for name, key, unit in ROWS:
            us, them = [m[key] for m in mine], [o[key] for o in other]
            rows.append((f"{name}, {dtype}", f"{spread(us)} {unit}", f"{spread(them)} {unit}", f"{ratio(them, us):.2f} x"))
    lines.append(markdown(("", "Atelier", "diffusers", "Atelier is better by"), rows))
    if shares:
        lines += ["", f"A preview every 5 of 50 steps adds {spread(shares)} % to denoising."]
    return "\n".join(lines + ["", "diffusers' time to open includes its imports.", ""])


def main(argv):
    a = arguments(argv)
    a.given = bool(a.model)
    from benchmarks import random_sd
    a.side = a.side or random_sd.SHAPES[a.shape]["side"]
    if not a.model:
        a.model = os.path.join(ROOT, ".cache", "bench", a.shape)
        if not os.path.isdir(a.model):
            print(f"making random weights of the {a.shape} shape in .cache/bench ...", file=sys.stderr)
            random_sd.make(a.model, a.shape)
    os.makedirs(os.path.join(ROOT, ".cache", "bench"), exist_ok=True)
    picture = os.path.join(ROOT, ".cache", "bench", "out.png")
    found = {}
    for dtype in a.dtypes.split(","):
        mine, peer = [], []
        for i in range(a.rounds):
            mine.append(ours(a, dtype, picture))
            peer.append(theirs(a, dtype))
            print(f"{dtype}, round {i + 1} of {a.rounds}: a step {mine[-1]['step_s']:.2f} / {peer[-1]['step_s']:.2f} s", file=sys.stderr)
        found[dtype] = mine, peer
    text = report(a, found, None if a.no_previews else previews(a, picture))
    print(text)
    if a.output:
        with open(a.output, "w", encoding="utf-8") as f:
            f.write(text)
        with open(os.path.splitext(a.output)[0] + ".jsonl", "w", encoding="utf-8") as f:
            for dtype, sides in found.items():
                for side, runs in zip(("atelier", "diffusers"), sides):
                    f.writelines(json.dumps({"who": side, "dtype": dtype, **figures}) + "\n" for figures in runs)
    return 0
