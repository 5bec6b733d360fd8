#!/usr/bin/env bash
# Lines on stdin -> their translations on stdout, the model loaded once (TranslateGemma).
#
#   printf 'a red circle\na large blue square\n' | examples/shell/translate.sh en:de
#
# A line that fails leaves an empty line, its error on stderr, and exit code 3. Flags of gemma-generate follow the languages
# (--model models/translategemma-4b-it, --batch-size 8). TOOL names another gemma-generate.
set -euo pipefail
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)
tool=${TOOL:-$root/build/release/bin/gemma-generate}
pair=${1:?usage: translate.sh FROM:TO [flags of gemma-generate] <lines}
shift

to_jobs() { python3 -c 'import json, sys
for line in sys.stdin:
    print(json.dumps({"prompt": line.strip()}))'; }

to_lines() {
  python3 -c '
import json, sys
for line in sys.stdin:
    record = json.loads(line)
    print(record.get("text", "").replace("\n", " "))
    if "error" in record:
        print(record["error"], file=sys.stderr)'
}

to_jobs | "$tool" --quiet --jobs - --translate "$pair" --temperature 0 "$@" | to_lines
