#!/usr/bin/env bash
# Lines on stdin -> one reply each on stdout, the model loaded once.
#
#   printf 'a red circle\na big blue square on white\n' | examples/shell/captions.sh
#
# A line that fails leaves an empty line, its error on stderr, and exit code 3. TOOL names another gemma-generate.
set -euo pipefail
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)
tool=${TOOL:-$root/build/release/bin/gemma-generate}

to_jobs() {
  python3 -c '
import json, sys
for line in sys.stdin:
    print(json.dumps({"prompt": "Write a caption for a picture of " + line.strip() + "."}))'
}

to_lines() {
  python3 -c '
import json, sys
for line in sys.stdin:
    record = json.loads(line)
    print(record.get("text", "").replace("\n", " "))
    if "error" in record:
        print(record["error"], file=sys.stderr)'
}

to_jobs | "$tool" --quiet --jobs - --temperature 0 --batch-size 8 "$@" | to_lines
