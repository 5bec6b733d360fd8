"""pytorch-fid on a folder: seconds for its pictures, without imports and opening. Run by scripts/bench metrics.

usage: peer_pytorch_fid.py WEIGHTS.safetensors FOLDER --threads N
"""
import argparse
import json
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from fixtures import _metrics_networks as networks  # noqa: E402
import pytorch_fid.fid_score  # noqa: E402
import torch  # noqa: E402
from safetensors.torch import load_file  # noqa: E402


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("weights")
    parser.add_argument("folder")
    parser.add_argument("--threads", type=int, required=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    net = networks.empty_inception()
    net.load_state_dict(load_file(options.weights), strict=False)
    model = networks.fid_model(net)
    files = sorted(os.path.join(options.folder, name) for name in os.listdir(options.folder))
    start = time.perf_counter()
    # As its command line does it: batches of 50, as many reading processes as cores, at most 8.
    pytorch_fid.fid_score.get_activations(files, model, num_workers=min(os.cpu_count(), 8))
    print(json.dumps({"pictures_s": time.perf_counter() - start, "torch": torch.__version__}))


if __name__ == "__main__":
    main()
