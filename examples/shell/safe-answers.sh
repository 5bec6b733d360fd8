#!/usr/bin/env bash
# Prompts on stdin, one a line -> the answers that a safety policy lets pass; the others are named on stderr (ShieldGemma).
#
#   printf 'Hello!\n' | SHIELD=models/shieldgemma-2b examples/shell/safe-answers.sh all
#
# Exit code 4 where anything was blocked. The first argument is a value of --safety: harassment,hate_speech:low, all:high ...
# SHIELD names the model that rates (the small one that ships can be asked too, but knows nothing of policies), TOOL another
# gemma-generate.
set -euo pipefail
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)
tool=${TOOL:-$root/build/release/bin/gemma-generate}
shield=${SHIELD:-$root/examples/models/tiny-gemma}
policies=${1:?usage: safe-answers.sh POLICY[:LEVEL],... [flags of gemma-generate] <prompts}
shift

to_jobs() { python3 -c 'import json, sys
for line in sys.stdin:
    print(json.dumps({"id": line.strip(), "prompt": line.strip()}))'; }

# Exit code 4 where a record was blocked.
to_answers() {
  python3 -c '
import json, sys
blocked = False
for line in sys.stdin:
    record = json.loads(line)
    if record.get("finish_reason") == "safety":
        blocked = True
        worst = max(record["safety_ratings"], key=lambda r: r["probability"])
        print("blocked: {}: {} {:.2f}".format(record["id"], worst["policy"], worst["probability"]), file=sys.stderr)
    else:
        print(record.get("text", "").replace("\n", " "))
sys.exit(4 if blocked else 0)'
}

to_jobs | "$tool" --quiet --jobs - --safety "$policies" --safety-model "$shield" --temperature 0 "$@" | to_answers
