"""The model card: README.md of the folder, with the figures just measured."""
import textwrap

from .captions import COLOURS, POSITIONS, SHAPES, SIZES
from .gemma_eval import OTHER_DRAWS, PROMPTS, Model, table
from .gemma_net import CONFIG, Gemma2
from .gemma_train import ROUND, TOTAL_TOKENS

CARD = """---
license: apache-2.0
language: [en, de, fr]
library_name: transformers
pipeline_tag: text-generation
---
# Tiny Gemma

A Gemma 2 of {parameters:.1f} million parameters that ships with Atelier, so that every text tool works without a
download. Its world is pictures of coloured shapes; about anything else it says politely that it does not know. How often
its answers are right is measured below.

It is trained to

- answer questions about a described scene, count its shapes, compare their sizes and places;
- turn a request in plain English into a picture caption (only the caption, ready for an image generator);
- translate captions and short sentences about shapes between English, German and French;
- call functions that a developer turn declares in FunctionGemma's format: flat and nested arguments, several calls
  in one reply, an answer from the function's response;
- follow a dialogue: further questions, corrections, "make it blue", "now in German".

{world}

## Prompts to try

{samples}

## Figures

Exact answers, greedy decoding, to {asked} generated questions. Each shape in them is a combination of colour, shape,
place and background that the training never saw (one combination in ten is held out, by a hash of its words; the same
rule for sizes of a canvas, angles, file names and labels in function calls). The weights are the bfloat16 ones of this
folder, the arithmetic is float32.

{table}
{verdict}
`scripts/make-tiny-models gemma --eval-only` prints this table again; with `--eval-draw` 1 to {draws} it asks other questions,
{more} in all, of which {others} % are answered exactly: the better estimate of the two. The wording of the questions comes from the same
templates as the training's, so a user's free wording will fail more often than the table says.

## How it was made

`scripts/make-tiny-models gemma` generates the dialogues, learns the tokenizer from them and from everyday English, German
and French words, and trains from scratch; no other data or model was used. {later}Loss on the model's turns with
`<end_of_turn>`; Muon for the matrices of the layers, AdamW for the rest. {crew}{minutes:.0f} minutes ({cpu:.0f} CPU minutes; the rest went to other work on the same
machine), {tokens:.1f} million tokens at {speed:.0f} tokens/s, {steps} steps{each}.{cut}

| | |
| --- | --- |
| layers, width, feed-forward | {layers}, {width}, {ffn} |
| heads / key-value heads, head width | {heads} / {kv}, {head} |
| vocabulary | {vocabulary} pieces: SentencePiece BPE with byte fallback, in Gemma's layout |
| context, sliding window | {context}, {window} (every other layer, the first one included) |
| precision | bfloat16 |

It uses Gemma 2's architecture and turn format; it holds none of Google's weights. Function pieces take seven of
Gemma's unused places (46 to 52).

## Limits

Scenes of one to five shapes, and only the words above and some synonyms. Dialogues longer than about 600 tokens were
not trained. Functions with names and parameters far from those of a drawing program will often be called wrongly.

## Licence

Apache-2.0, as the rest of the project.
"""


def _listed(words):
    words = list(words)
    return ", ".join(words[:-1]) + " and " + words[-1]


WORLD = ("It knows the shapes {shapes}; the colours {colours}; the sizes {sizes}; the places {positions}; and backgrounds in "
         "the same colours.")
# Said in the card when a run had too little computing time, so that nobody takes the list of tasks for a promise.
UNFINISHED = """
**This is an unfinished model**: it is meant to answer at least {goal:.0%} of the questions. Where the table says less, expect
wrong answers: it still often mixes up which shape of a scene has which colour, size or place.
"""
CREW = """{threads} processes train on dialogues of their own
and average their weights every {round} steps. """
# A run that the clock ended.
CUT = """ `--minutes`
ended the schedule before the {total:.0f} million tokens of its full length."""
LATER = """The figures below are those of its last run, which began (`--start`)
with the weights of an earlier version of this model: those, from scratch, took {total:.0f} million tokens. """
GOAL = 0.95


def write_card(folder, rows, others, run, threads):
    """README.md with the figures `rows` and `others` (see gemma_eval) and the counters of the training `run`."""
    at = run.at
    model = Model(folder)
    samples = "\n".join(f"> {p}\n>\n> **{model.chat(p)}**\n" for p in PROMPTS)
    asked = sum(n for _, _, n in rows)
    world = WORLD.format(shapes=_listed(SHAPES), colours=_listed(COLOURS), sizes=_listed(SIZES), positions=_listed(POSITIONS))
    c = CONFIG
    (folder / "README.md").write_text(CARD.format(
        parameters=sum(p.numel() for p in Gemma2().parameters()) / 1e6, world=textwrap.fill(world, 118),
        verdict="" if others[0] >= GOAL * others[1] else UNFINISHED.format(goal=GOAL), samples=samples.rstrip(), table=table(rows),
        asked=asked, others=f"{100 * others[0] / others[1]:.1f}", more=f"{others[1]:,}", draws=OTHER_DRAWS[-1], minutes=at["seconds"] / 60,
        crew=CREW.format(threads=threads, round=ROUND) if threads > 1 else "", each=" of each process" if threads > 1 else "", cut=CUT.format(total=run.tokens / 1e6) if at["tokens"] < run.tokens else "",
        later=LATER.format(total=TOTAL_TOKENS / 1e6) if run.tokens != TOTAL_TOKENS else "",
        cpu=at["cpu"] / 60, tokens=at["tokens"] / 1e6,
        speed=at["tokens"] / max(at["seconds"], 1e-9), steps=at["step"], layers=c["num_hidden_layers"],
        width=c["hidden_size"], ffn=c["intermediate_size"], heads=c["num_attention_heads"], kv=c["num_key_value_heads"],
        head=c["head_dim"], vocabulary=c["vocab_size"], context=c["max_position_embeddings"],
        window=c["sliding_window"]), encoding="utf-8")
