#!/usr/bin/env bash
# Teaches the small model that ships a domain from 200 rows, for cron: a better model comes out, or nothing at all.
#
# All weights are trained: the answers need words that this small model has never said, and adapters on its layers cannot teach it
# those. For a model that knows its language an adapter is enough: `nightly.sh DIR --method lora --lr 2e-4`.
#
#   0 3 * * *  /path/to/atelier/examples/finetune/nightly.sh /var/lib/store-model
#
# DIR gets the rows, the model in DIR/model, and a line about held-out pictures before and after. The same call goes on
# where it was stopped, and leaves a finished run alone. Exit codes: 0 there is a model and it is better; 4 it did not get
# better, and there is none; 75 stopped, run it again; others as gemma-finetune has them. Further flags go to gemma-finetune.
set -euo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
bin=${BIN:-$here/../../build/release/bin}
dir=${1:?usage: nightly.sh DIR [flags of gemma-finetune]}
shift

# Share of the test's answers that are right to the letter.
accuracy() {
  python3 -c '
import json, sys
for i, line in enumerate(open(sys.argv[1], encoding="utf-8")):
    print(json.dumps({"id": i, "prompt": json.loads(line)["messages"][0]["content"], "temperature": 0, "max_tokens": 24}))' \
    "$dir/test.jsonl" | "$bin/gemma-generate" --quiet --jobs - --batch-size 16 --seed 1 "$@" | python3 -c '
import json, sys
wanted = [json.loads(line)["messages"][1]["content"] for line in open(sys.argv[1], encoding="utf-8")]
found = [json.loads(line).get("text", "") for line in sys.stdin]
right = sum(a == b for a, b in zip(wanted, found))
print(f"{right} of {len(wanted)}")' "$dir/test.jsonl"
}

python3 "$here/make-rows.py" "$dir"
before=$(accuracy)
"$bin/gemma-finetune" --quiet --data "$dir/train.jsonl" --eval-data "$dir/eval.jsonl" --output "$dir/model" \
  --method full --lr 1e-3 --batch-size 8 --epochs 12 --warmup 0.05 --precision fp32 --eval-every 50 --early-stop 3 \
  --require-improvement --seed 1 --manifest "$dir/manifest.json" "$@"
kind=model
if [[ -e $dir/model/adapter_config.json ]]; then kind=adapter; fi
after=$(accuracy "--$kind" "$dir/model")
echo "held-out pictures found: $before before, $after after; $SECONDS s"
