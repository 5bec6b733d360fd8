"""scripts/bench image: sd-txt2img beside diffusers at the shapes of Stable Diffusion 1.5 and XL with random weights.

A whole run takes more than half an hour, so it can be made in parts: every part adds its figures to the record (--record), and the
report is drawn from all that stands there. A row is SHAPE-DTYPE: sd15-fp32 sd15-bf16 sdxl-fp32 sdxl-bf16; and previews.
"""
import argparse
import json
import os
import statistics
import sys

from benchmarks import random_sd
from benchmarks.measure import OutOfMemory, markdown, ratio, records, run, spread
from benchmarks.text import processor

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
HERE = os.path.dirname(os.path.abspath(__file__))
CACHE = os.path.join(ROOT, ".cache", "bench")
PROMPT = "a cat in the sea"
ROWS = ("sd15-fp32", "sd15-bf16", "sdxl-fp32", "sdxl-bf16", "previews")
FIGURES = (("text encoding", "text_s", "s"), ("one step", "step_s", "s"), ("decoding", "decode_s", "s"), ("peak memory", "rss_gib", "GiB"),
           ("open", "load_s", "s"))
STEPS = {"sd15": 3, "sdxl": 1}  # that are measured, after a picture of one step that warms up
PREVIEWED = 50                  # steps of the picture whose previews are measured


def arguments(argv):
    p = argparse.ArgumentParser(prog="scripts/bench image", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rows", default=",".join(ROWS), help="what to measure (default: %(default)s)")
    p.add_argument("--rounds", type=int, default=3, help="ours and the peer alternately, this often (default: %(default)s)")
    p.add_argument("--only", choices=("atelier", "diffusers"), help="one side, in parts of its own; the other's runs are paired by number")
    p.add_argument("--record", help="figures, one a line (default: docs/image.jsonl; with --quick or --model .cache/bench/NAME.jsonl)")
    p.add_argument("--report", help="the table drawn from them (default: the record's name with .md)")
    p.add_argument("--fresh", action="store_true", help="forget what the record has of these rows")
    p.add_argument("--report-only", action="store_true", help="measure nothing")
    p.add_argument("--quick", action="store_true", help="tiny models of the same kinds in place of the real shapes: to try the script")
    p.add_argument("--model", help="a diffusers folder in place of the shapes; its rows are model-fp32 and model-bf16")
    p.add_argument("--side", type=int, help="pixels (default: what the shape is made for)")
    p.add_argument("--steps", type=int, help="steps that are measured (default: 3, with SDXL 1)")
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--build", default=os.path.join(ROOT, "build", "release"))
    a = p.parse_args(argv)
    known = ("model-fp32", "model-bf16") if a.model else ROWS
    a.rows = list(known) if a.model and a.rows == ",".join(ROWS) else a.rows.split(",")
    wrong = [row for row in a.rows if row not in known]
    if wrong:
        p.error(f"unknown row {wrong[0]}; known are {', '.join(known)}")
    name = "quick" if a.quick else os.path.basename(os.path.normpath(a.model)) if a.model else None
    a.record = a.record or (os.path.join(CACHE, name + ".jsonl") if name else os.path.join(ROOT, "docs", "image.jsonl"))
    a.report = a.report or os.path.splitext(a.record)[0] + ".md"
    return a


class Shape:
    """A model folder, made where it is not there yet, and what is asked of it."""

    def __init__(self, a, name):
        shape = "tiny" + ("-xl" if name == "sdxl" else "") if a.quick else name
        self.path = a.model or os.path.join(CACHE, shape)
        if not os.path.isdir(self.path):
            print(f"making random weights of the {shape} shape in .cache/bench ...", file=sys.stderr)
            random_sd.make(self.path, shape)
        self.side = a.side or (random_sd.SHAPES[shape]["side"] if shape in random_sd.SHAPES else 512)
        self.steps = a.steps or STEPS.get(name, 3)


def tool(a, shape, dtype, *more):
    return [os.path.join(a.build, "bin", "sd-txt2img"), "--model", shape.path, "--dtype", dtype, "--threads", str(a.threads), "-W",
            str(shape.side), "-H", str(shape.side), "--quiet", *more]


def checked(text):
    got = records(text)
    for record in got:
        if "error" in record:
            raise SystemExit(f"bench: error: {record}")
    return got


def ours(a, shape, dtype):
    # Jobs of one process share the model; the first at full size warms up, as the peer's first picture does. As the peer encodes its text
    # three times, so do small pictures after one that brings the weights in.
    job = {"prompt": PROMPT, "seed": 1, "output": os.path.join(CACHE, "out.png")}
    jobs = [{**job, "width": 64, "height": 64, "steps": 1}] * 4 + [{**job, "steps": 1}, {**job, "steps": shape.steps}]
    text, _, rss = run(tool(a, shape, dtype, "--jobs", "-"), stdin="".join(json.dumps({**j, "id": i}) + "\n" for i, j in enumerate(jobs)))
    timings = [record["timings"] for record in checked(text)]
    return {"load_s": timings[0]["load_s"], "text_s": min(t["text_s"] for t in timings[1:4]), "step_s": timings[-1]["step_s"],
            "decode_s": min(t["decode_s"] for t in timings[-2:]), "rss_gib": rss / 2**30}


def theirs(a, shape, dtype):
    text, _, rss = run([sys.executable, os.path.join(HERE, "peer_diffusers.py"), shape.path, "--threads", str(a.threads), "--dtype", dtype,
                        "--side", str(shape.side), "--steps", str(shape.steps), "--prompt", PROMPT], env={"HF_HUB_OFFLINE": "1"})
    return {**records(text)[-1], "rss_gib": rss / 2**30}


def previews(a, shape):
    """What a preview every 5 steps, the default, takes of a picture of 50 steps; in bf16, whose steps are the shorter ones."""
    picture = os.path.join(CACHE, "out.png")
    command = tool(a, shape, "bf16", "-p", PROMPT, "-s", "1", "--steps", str(PREVIEWED), "--json", "-o", picture, "--preview",
                   os.path.join(CACHE, "preview.png"))
    timings = checked(run(command)[0])[0]["timings"]
    return {"preview_s": timings["preview_s"], "denoise_s": timings["denoise_s"],
            "share": 100 * timings["preview_s"] / (timings["denoise_s"] - timings["preview_s"])}


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


def add(a, row, who, shape, figures):
    """Every single run is kept at once: a part that is stopped loses one."""
    line = {"row": row, "who": who, "model": os.path.basename(os.path.normpath(shape.path)), "side": shape.side,
            "threads": a.threads, "processor": processor(), **figures}
    write(a.record, "".join(json.dumps(each) + "\n" for each in [*read(a.record), line]))


def measure(a):
    os.makedirs(CACHE, exist_ok=True)
    for row in a.rows:
        name, _, dtype = row.partition("-")
        shape = Shape(a, "sd15" if row == "previews" else name)
        for i in range(a.rounds if row != "previews" else 1):
            for who, side in (("atelier", ours), ("diffusers", theirs)):
                if row == "previews" and who == "diffusers" or a.only not in (None, who):
                    continue
                try:
                    figures = previews(a, shape) if row == "previews" else {"steps": shape.steps, **side(a, shape, dtype)}
                except OutOfMemory:
                    figures = {"failed": "out of memory"}
                add(a, row, who, shape, figures)
                said = ", ".join(f"{key} {value:.2f}" for key, value in figures.items() if isinstance(value, float))
                print(f"{row}, round {i + 1}, {who}: {said or figures}", file=sys.stderr)


def rows_of(lines):
    """The table's rows: what was measured on both sides, run beside run."""
    for row in dict.fromkeys(line["row"] for line in lines if line["row"] != "previews"):
        own, peer = ([line for line in lines if line["row"] == row and line["who"] == who] for who in ("atelier", "diffusers"))
        for name, key, unit in FIGURES:
            sides = [[line[key] for line in lines if key in line] for lines in (own, peer)]
            shown = [f"{spread(values)} {unit}" if values else "out of memory" if tried else "–" for values, tried in zip(sides, (own, peer))]
            size = f"{(own or peer)[0]['side']}x{(own or peer)[0]['side']}"
            yield f"{row}, {size}: {name}", *shown, f"{ratio(*reversed(sides)):.2f} x" if all(sides) else "–"


def drawn(lines):
    """The report."""
    peers = [line for line in lines if "torch" in line]
    versions = f"; LibTorch {peers[-1]['torch']}, diffusers {peers[-1]['diffusers']}" if peers else ""
    runs = sorted({sum(line["row"] == row and line["who"] == who for line in lines)
                   for row, who in {(line["row"], line["who"]) for line in lines if line["row"] != "previews"}})
    models = ", ".join(dict.fromkeys(line["model"] for line in lines))
    text = [f"Random weights of the shapes {models}; {lines[-1]['threads']} threads, {lines[-1]['processor']}{versions}; "
            f"{'–'.join(str(n) for n in dict.fromkeys((runs[0], runs[-1])))} alternate runs of each row: median (least–most); ratios are "
            "medians of neighbouring runs. A step is one evaluation with guidance." if runs else f"{lines[-1]['processor']}."]
    text += ["", markdown(("", "Atelier", "diffusers", "Atelier is better by"), rows_of(lines))] if runs else []
    shares = [line["share"] for line in lines if line["row"] == "previews"]
    if shares:
        text += ["", f"Previews, one every 5 of {PREVIEWED} steps at {[line for line in lines if line['row'] == 'previews'][-1]['side']} pixels "
                 f"in bf16, add {statistics.median(shares):.2f} % to denoising."]
    return "\n".join([*text, "", "diffusers' time to open includes its imports.", ""])


def main(argv):
    a = arguments(argv)
    if a.fresh:
        write(a.record, "".join(json.dumps(line) + "\n" for line in read(a.record) if line["row"] not in a.rows))
    if not a.report_only:
        measure(a)
    lines = read(a.record)
    if not lines:
        raise SystemExit(f"bench: error: {a.record} has no figures")
    text = drawn(lines)
    write(a.report, text)
    print(text)
    return 0
