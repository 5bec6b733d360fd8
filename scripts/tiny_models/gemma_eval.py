"""Evaluation of the saved folder with transformers: exact answers on held-out combinations."""
import json
import random
import sys

import sentencepiece as spm
import torch

from .dialogues import TASKS, prompt_and_answer, question

QUESTIONS = 500
OTHER_DRAWS = range(1, 7)
BATCH = 25
LABELS = {"qa": "questions about a scene", "counting": "counting", "comparing": "comparing", "caption": "captions",
          "german": "German", "french": "French", "call_flat": "calls, flat", "call_nested": "calls, nested arguments",
          "call_several": "calls, several at once", "call_response": "answers from a response", "multi_turn": "several turns"}
PROMPTS = (
    "Hello!", "Who are you?", "Write a caption for a picture of a red circle.", "Draw me a big green square on white",
    "A picture shows a large blue star at the top left and a small pink ring on the right on a grey background. "
    "Which is larger, the star or the ring?",
    "There are a small red circle at the top, a large red heart in the centre and a medium green circle at the bottom on a white "
    "background. How many circles are there?",
    "Translate into German: a large yellow diamond at the top right on a black background",
    "Translate into French: a small purple star in the centre", "What is the capital of France?",
)


class Model:
    """The folder's model with greedy decoding."""

    def __init__(self, folder, dtype=torch.float32):
        from transformers import Gemma2ForCausalLM
        self.sp = spm.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
        self.net = Gemma2ForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="eager").eval()

    @torch.inference_mode()
    def answers(self, prompts, limit=128):
        """The replies to templated prompts (without <bos>), in their order."""
        rows = [[2] + self.sp.encode(p) for p in prompts]
        order, out = sorted(range(len(rows)), key=lambda i: len(rows[i])), [None] * len(rows)
        for start in range(0, len(order), BATCH):
            group = order[start:start + BATCH]
            width = max(len(rows[i]) for i in group)
            ids = torch.tensor([[0] * (width - len(rows[i])) + rows[i] for i in group])
            mask = torch.tensor([[0] * (width - len(rows[i])) + [1] * len(rows[i]) for i in group])
            made = self.net.generate(input_ids=ids, attention_mask=mask, do_sample=False, max_new_tokens=limit,
                                     eos_token_id=[1, 107], pad_token_id=0)
            for i, row in zip(group, made[:, width:].tolist()):
                ends = [row.index(e) for e in (1, 107) if e in row]
                out[i] = self.sp.decode(row[:min(ends)] if ends else row)
        return out

    def chat(self, text):
        """The reply to one user message."""
        return self.answers([f"<start_of_turn>user\n{text}<end_of_turn>\n<start_of_turn>model\n"])[0]


def questions(count=QUESTIONS, draw=0):
    """Held-out questions, the tasks taking turns; for one `draw` always the same ones."""
    made, seen = [], set()
    generators = {task: random.Random(f"evaluation {task} {draw}" if draw else f"evaluation {task}") for task in TASKS}
    while len(made) < count:
        task = TASKS[len(made) % len(TASKS)]
        dialogue = question(generators[task], task)
        prompt, answer = prompt_and_answer(dialogue)
        if prompt in seen:
            continue
        seen.add(prompt)
        record = {"id": f"{task}-{len(made):03d}", "task": task, "messages": dialogue.messages[:-1]}
        if dialogue.tools:
            record["tools"] = dialogue.tools
        made.append({**record, "prompt": prompt, "answer": answer})
    return made


def write_questions(path, count=100):
    """The first questions as JSON Lines, for tests that run the executables."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(q, ensure_ascii=False) + "\n" for q in questions(count)), encoding="utf-8")


def evaluate(folder, *, dtype=torch.float32, show=5, log=print, draw=0):
    """[(task, right, asked)] for the saved folder; some wrong answers go to stderr."""
    asked = questions(draw=draw)
    given = Model(folder, dtype).answers([q["prompt"] for q in asked])
    right = [q["answer"] == g for q, g in zip(asked, given)]
    wrong = [(q, g) for q, g, r in zip(asked, given, right) if not r]
    for q, g in wrong[:show]:
        print(f"wrong: {q['id']}: {q['prompt'][-300:]!r}\n  expected {q['answer']!r}\n  got      {g!r}", file=sys.stderr)
    rows = [(task, sum(r for q, r in zip(asked, right) if q["task"] == task), sum(q["task"] == task for q in asked))
            for task in TASKS]
    log(table(rows))
    return rows


def other_draws(folder):
    """(right, asked) of the questions of OTHER_DRAWS: how far the table's draw is luck."""
    rows = [row for draw in OTHER_DRAWS for row in evaluate(folder, show=0, log=lambda text: None, draw=draw)]
    return sum(r for _, r, _ in rows), sum(n for _, _, n in rows)


def table(rows):
    """The figures as a Markdown table."""
    lines = ["| task | exact | of | % |", "| --- | ---: | ---: | ---: |"]
    rows = [(LABELS[t], r, n) for t, r, n in rows] + [("**all**", sum(r for _, r, _ in rows), sum(n for _, _, n in rows))]
    return "\n".join(lines + [f"| {label} | {r} | {n} | {100 * r / n:.1f} |" for label, r, n in rows])
