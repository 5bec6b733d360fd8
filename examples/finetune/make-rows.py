#!/usr/bin/env python3
"""Rows of a domain that tiny-gemma does not know: where a store keeps its pictures of shapes.

The cabinet follows from the shape, the drawer from the colour, the shelf from the size: 264 pictures. 200 of them are learnt,
24 tell when it is enough, and 40 that nothing was told about are the test.

  make-rows.py DIR   writes DIR/train.jsonl, DIR/eval.jsonl and DIR/test.jsonl
"""
import itertools
import json
import os
import random
import sys

CABINETS = dict(zip("circle square triangle star heart diamond cross ring".split(), "KBTMHDWR"))
DRAWERS = {c: i + 1 for i, c in enumerate("purple red grey green white pink blue black orange yellow brown".split())}
SHELVES = {"small": "upper", "medium": "middle", "large": "lower"}
QUESTIONS = ("Where is the {} kept?", "In which drawer is the {}?", "I need the {}.")


def row(size, colour, shape, question):
    answer = f"cabinet {CABINETS[shape]}, drawer {DRAWERS[colour]}, {SHELVES[size]} shelf"
    return {"messages": [{"role": "user", "content": question.format(f"{size} {colour} {shape}")},
                         {"role": "model", "content": answer}]}


def main(folder):
    rng = random.Random(1)
    pictures = list(itertools.product(SHELVES, DRAWERS, CABINETS))
    rng.shuffle(pictures)
    rows = [row(*picture, rng.choice(QUESTIONS)) for picture in pictures]
    os.makedirs(folder, exist_ok=True)
    for name, part in (("train", rows[:200]), ("eval", rows[200:224]), ("test", rows[224:])):
        with open(os.path.join(folder, name + ".jsonl"), "w", encoding="utf-8") as f:
            f.writelines(json.dumps(r) + "\n" for r in part)


if __name__ == "__main__":
    main(sys.argv[1])
