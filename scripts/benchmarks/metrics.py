"""scripts/bench metrics: pictures through Inception, beside pytorch-fid, alternately; random weights, for the time does not depend on
them. Ours is the whole process (opening, hashing, features, covariance, writing them), pytorch-fid's only its pictures.
"""
import argparse
import os
import statistics
import sys
import time

from benchmarks.measure import markdown, ratio, records, run, spread
from benchmarks.text import processor

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
HERE = os.path.dirname(os.path.abspath(__file__))
CACHE = os.path.join(ROOT, ".cache", "bench", "metrics")


def arguments(argv):
    p = argparse.ArgumentParser(prog="scripts/bench metrics", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--pictures", type=int, default=2000, help="how many (default: %(default)s)")
    p.add_argument("--side", type=int, default=64, help="their width and height (default: %(default)s)")
    p.add_argument("--rounds", type=int, default=3, help="ours and the peer alternately, this often (default: %(default)s)")
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--build", default=os.path.join(ROOT, "build", "release"))
    p.add_argument("--report", help="the table, as Markdown (default: only printed)")
    return p.parse_args(argv)


def make(a):
    """Weights and pictures, where they are not there yet."""
    from fixtures import _metrics_networks as networks
    from PIL import Image
    from safetensors.torch import save_file
    weights, folder = os.path.join(CACHE, "inception.safetensors"), os.path.join(CACHE, f"{a.pictures}-{a.side}")
    os.makedirs(folder, exist_ok=True)
    if not os.path.exists(weights):
        net = networks.inception()
        save_file({name: t.contiguous() for name, t in net.state_dict().items() if t.is_floating_point()}, weights + ".partial")
        os.replace(weights + ".partial", weights)
    for i in range(a.pictures):
        path = os.path.join(folder, f"{i:05}.png")
        if not os.path.exists(path):
            Image.fromarray(networks.picture(f"bench.{i}", a.side, a.side)).save(path)
    return weights, folder


def ours(a, weights, folder):
    start = time.perf_counter()
    _, _, rss = run([os.path.join(a.build, "bin", "metrics-test-tool"), weights, "features", folder, os.path.join(CACHE, "features.safetensors")],
                    env={"OMP_NUM_THREADS": str(a.threads)})
    return {"pictures_s": time.perf_counter() - start, "rss": rss}


def theirs(a, weights, folder):
    text, _, rss = run([sys.executable, os.path.join(HERE, "peer_pytorch_fid.py"), weights, folder, "--threads", str(a.threads)])
    return {**records(text)[-1], "rss": rss}


def drawn(a, own, peer):
    rate = lambda runs: [a.pictures / each["pictures_s"] for each in runs]  # noqa: E731
    rows = [(f"{a.pictures} pictures of {a.side}x{a.side}", f"{spread(rate(own))} a second", f"{spread(rate(peer))} a second",
             f"{ratio(rate(own), rate(peer)):.2f} x"),
            ("peak memory", f"{statistics.median(each['rss'] for each in own) / 2**30:.2f} GiB",
             f"{statistics.median(each['rss'] for each in peer) / 2**30:.2f} GiB", f"{ratio([p['rss'] for p in peer], [o['rss'] for o in own]):.2f} x")]
    return (f"Inception of FID, {a.threads} threads, {processor()}; LibTorch {peer[-1]['torch']}; {a.rounds} alternate runs: median (least–most); "
            f"ratios are medians of neighbouring runs. pytorch-fid's memory is that of its main process.\n\n"
            + markdown(("", "Atelier", "pytorch-fid", "Atelier is better by"), rows) + "\n")


def main(argv):
    a = arguments(argv)
    weights, folder = make(a)
    own, peer = [], []
    for i in range(a.rounds):
        for runs, side in ((own, ours), (peer, theirs)) if i % 2 == 0 else ((peer, theirs), (own, ours)):
            runs.append(side(a, weights, folder))
            print(f"round {i + 1}, {side.__name__}: {runs[-1]['pictures_s']:.2f} s", file=sys.stderr)
    text = drawn(a, own, peer)
    if a.report:
        with open(a.report + ".partial", "w", encoding="utf-8") as f:
            f.write(text)
        os.replace(a.report + ".partial", a.report)
    print(text)
    return 0
