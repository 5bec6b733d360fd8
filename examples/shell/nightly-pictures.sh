#!/usr/bin/env bash
# A batch of prompts for cron, one a line: goes on where it was stopped, and says how it went.
#
#   0 3 * * *  /path/to/atelier/examples/shell/nightly-pictures.sh prompts.txt pictures
#
# The picture of line 7 is pictures/0007.png and has the same seed every time. Exit codes: 0 everything is there; 3 some prompts
# failed (pictures/records.jsonl says why); 75, 130 or 143 stopped, run it again to go on. TXT2IMG names another sd-txt2img.
set -euo pipefail
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)
txt2img=${TXT2IMG:-$root/build/release/bin/sd-txt2img}
prompts=${1:?usage: nightly-pictures.sh PROMPTS.txt FOLDER [flags of sd-txt2img]}
folder=${2:?usage: nightly-pictures.sh PROMPTS.txt FOLDER [flags of sd-txt2img]}
shift 2
mkdir -p -- "$folder"

to_jobs() {
  python3 -c '
import json, pathlib, sys
for number, line in enumerate(open(sys.argv[1], encoding="utf-8"), 1):
    if line.strip():
        path = pathlib.Path(sys.argv[2]) / f"{number:04}.png"
        print(json.dumps({"id": number, "prompt": line.strip(), "seed": number, "output": str(path)}))' "$prompts" "$folder"
}

to_jobs | "$txt2img" --quiet --jobs - --resume --manifest "$folder/manifest.json" "$@" >>"$folder/records.jsonl"
