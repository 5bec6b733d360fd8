"""scripts/bench quant: Gemma 2 2B in bf16, 8 and 4 bits, beside the memory's bandwidth and llama.cpp; memory at 2,048 tokens."""
import argparse
import json
import os
import statistics
import sys

from benchmarks.measure import markdown, ratio, records, run, spread
from benchmarks.text import ROOT, ours, processor, prompt_of

HERE = os.path.dirname(os.path.abspath(__file__))
PREFILL = (32, 512)
CONTEXT = 2048
#        ours, bits of gemma-quantize, llama.cpp's nearest
ROWS = {"bf16": (None, "BF16"), "int8": (8, "Q8_0"), "int4": (4, "Q4_K_M")}


def arguments(argv):
    p = argparse.ArgumentParser(prog="scripts/bench quant")
    p.add_argument("--model", help="a Gemma folder in bf16 (default: one of the Gemma 2 2B shape with random weights, made once in .cache/)")
    p.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS), help="what to measure")
    p.add_argument("--rounds", type=int, default=5, help="ours and the peer alternately, this often")
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--decode", type=int, default=64, help="tokens to decode")
    p.add_argument("--peer-python", help="an interpreter that has llama_cpp (llama-cpp-python, built for this machine) and gguf; without it "
                   "only ours is measured")
    p.add_argument("--build", default=os.path.join(ROOT, "build", "release"))
    p.add_argument("--cache", default=os.path.join(ROOT, ".cache", "bench"), help="where models are made")
    p.add_argument("--record", default=os.path.join(ROOT, "docs", "quantisation.jsonl"), help="where the figures go, and the table beside it as .md")
    p.add_argument("--report-only", action="store_true", help="measure nothing, write the table anew")
    return p.parse_args(argv)


def weight_bytes(folder):
    return sum(os.path.getsize(os.path.join(folder, f)) for f in os.listdir(folder) if f.endswith(".safetensors"))


def folder_of(a, row):
    """The folder of one row, made where it is not there yet."""
    bits = ROWS[row][0]
    if bits is None:
        return a.model
    folder = os.path.join(a.cache, f"{os.path.basename(os.path.normpath(a.model))}-{row}")
    if not os.path.isdir(folder):
        print(f"making {folder} ...", file=sys.stderr)
        run([os.path.join(a.build, "bin", "gemma-quantize"), "--model", a.model, "--bits", str(bits), "--output", folder, "--seed", "1"])
    return folder


def gguf_of(a, row):
    """The same weights as llama.cpp reads them."""
    path = os.path.join(a.cache, f"{os.path.basename(os.path.normpath(a.model))}-{ROWS[row][1]}.gguf")
    if not os.path.exists(path):
        print(f"making {path} ...", file=sys.stderr)
        run([a.peer_python, os.path.join(HERE, "peer_llama_cpp.py"), "make", a.model, path, ROWS[row][1]])
    return path


def bandwidth(a):
    tool = os.path.join(a.build, "bin", "read_bandwidth")
    text = run([tool, str(a.threads), "1024", "3"])[0]
    return statistics.median(float(line) for line in text.split())


def theirs(a, path):
    text, _, rss = run([a.peer_python, os.path.join(HERE, "peer_llama_cpp.py"), "measure", path, "--threads", str(a.threads),
                        "--decode", str(a.decode), "--prefill", *map(str, PREFILL)])
    return {**records(text)[-1], "rss": rss}


def at_context(tool, folder, a, prompt):
    """Peak memory and speed of decoding behind a prompt that nearly fills the context."""
    job = {"id": 0, "raw": True, "temperature": 0, "prompt": prompt, "max_tokens": 32}
    text, _, rss = run([tool, "--model", folder, "--threads", str(a.threads), "--batch-size", "1", "--jobs", "-"],
                       stdin=json.dumps(job) + "\n")
    record = records(text)[0]
    return {"rss_context": rss, "decode_context": (record["usage"]["completion_tokens"] - 1) / record["timings"]["decode_s"]}


def measure(a):
    tool = os.path.join(a.build, "bin", "gemma-generate")
    folders = {row: folder_of(a, row) for row in a.rows}
    peers = {row: gguf_of(a, row) for row in a.rows} if a.peer_python else {}
    prompts = {n: prompt_of(tool, a.model, n) for n in (*PREFILL, CONTEXT - 32)}
    for index in range(a.rounds):
        for row in a.rows:
            common = {"row": row, "round": index, "threads": a.threads, "processor": processor(), "bandwidth": bandwidth(a)}
            figures = ours(tool, folders[row], prompts, a)
            if index == 0:
                figures.update(at_context(tool, folders[row], a, prompts[CONTEXT - 32]))
            yield {**common, "who": "atelier", "bytes": weight_bytes(folders[row]), **figures}
            if row in peers:
                yield {**common, "who": "llama.cpp", "bytes": os.path.getsize(peers[row]), **theirs(a, peers[row])}
        print(f"round {index + 1} of {a.rounds}", file=sys.stderr)


def of(lines, row, who):
    return [line for line in lines if line["row"] == row and line["who"] == who]


def drawn(lines):
    """The tables of a record."""
    first = lines[0]
    rows, memory = [], []
    for row in [r for r in ROWS if of(lines, r, "atelier")]:
        mine, peer = of(lines, row, "atelier"), of(lines, row, "llama.cpp")
        read = [m["decode"] * m["bytes"] / 1e9 for m in mine]
        share = statistics.median(r / m["bandwidth"] for r, m in zip(read, mine))
        for name, key, unit in (("decode", "decode", "tok/s"), ("prefill 32", "prefill_32", "tok/s"), ("prefill 512", "prefill_512", "tok/s")):
            us, them = [m[key] for m in mine], [p[key] for p in peer]
            reads = f"{spread(read)} GB/s, {share:.2f}" if key == "decode" else ""
            rows.append((f"{row}: {name}", f"{spread(us)} {unit}", reads, f"{spread(them)} {unit}" if peer else "–",
                         f"{ratio(us, them):.2f} x" if peer else "–"))
        context = [m for m in mine if "rss_context" in m]
        memory.append((row, f"{mine[0]['bytes'] / 1e9:.2f} GB", f"{max(m['rss_context'] for m in context) / 1e9:.2f} GB" if context else "–",
                       f"{max(p['rss'] for p in peer) / 1e9:.2f} GB" if peer else "–",
                       f"{spread([m['first_token_s'] for m in mine])} s",
                       f"{statistics.median(m['decode_context'] for m in context):.3g} tok/s" if context else "–"))
    rounds = len(of(lines, first["row"], "atelier"))
    peers = sorted({f"{ROWS[line['row']][1]}" for line in lines if line["who"] == "llama.cpp"})
    versions = sorted({line["version"] for line in lines if line.get("version")})
    return "\n".join([
        f"Gemma 2 2B shape, random weights, {first['threads']} threads, {first['processor']}; {rounds} alternate runs: median "
        f"(least–most); ratios are medians of neighbouring runs." +
        (f" llama.cpp ({', '.join(versions)}): {', '.join(peers)}." if peers else " llama.cpp was not measured."), "",
        markdown(("", "Atelier", "weights read, share of the bandwidth", "llama.cpp", "Atelier is better by"), rows), "",
        f"The share is of what `read_bandwidth` read just before: {spread([m['bandwidth'] for m in lines])} GB/s.", "",
        markdown(("", "weights", f"peak memory at {CONTEXT:,} tokens", "llama.cpp's peak at 1,024", "command to first token", f"decode at {CONTEXT:,}"),
                 memory), ""])


def main(argv):
    a = arguments(argv)
    if not a.report_only:
        if not a.model:
            from benchmarks import random_gemma
            a.model = os.path.join(a.cache, "gemma2-2b")
            if not os.path.isdir(a.model):
                print("making random weights of the Gemma 2 2B shape (5.2 GB) ...", file=sys.stderr)
                random_gemma.make(a.model, os.path.join(ROOT, "examples", "models", "tiny-gemma"))
        lines = []
        for line in measure(a):
            lines.append(line)
            print(json.dumps({k: line[k] for k in ("row", "who", "round", "decode", "prefill_512", "bandwidth")}), file=sys.stderr)
        kept = []
        if os.path.exists(a.record):
            with open(a.record, encoding="utf-8") as f:
                kept = [each for each in map(json.loads, f) if each["row"] not in a.rows]
        with open(a.record, "w", encoding="utf-8") as f:
            f.writelines(json.dumps(each) + "\n" for each in kept + lines)
    with open(a.record, encoding="utf-8") as f:
        text = drawn([json.loads(each) for each in f])
    print(text)
    with open(os.path.splitext(a.record)[0] + "-bench.md", "w", encoding="utf-8") as f:
        f.write(text)
    return 0
