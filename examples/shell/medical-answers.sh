#!/usr/bin/env bash
# Questions on stdin, one a line -> one JSON object {"question","answer"} each on stdout (MedGemma: its system text, greedy).
#
#   echo 'What does a high ferritin level mean?' | examples/shell/medical-answers.sh --model models/medgemma-27b-text-it
#
# On the small model that ships the answers are not medicine. They never are advice. TOOL names another gemma-generate.
set -euo pipefail
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)
tool=${TOOL:-$root/build/release/bin/gemma-generate}

to_jobs() { python3 -c 'import json, sys
for line in sys.stdin:
    print(json.dumps({"id": line.strip(), "prompt": line.strip()}))'; }

to_answers() { python3 -c 'import json, sys
for line in sys.stdin:
    record = json.loads(line)
    print(json.dumps({"question": record["id"], "answer": record.get("text"), **({"error": record["error"]} if "error" in record else {})}))'; }

to_jobs | "$tool" --quiet --jobs - --variant medgemma "$@" | to_answers
