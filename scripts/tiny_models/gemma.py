"""The stages behind `make-tiny-models gemma`: tokenizer, training, folder, figures, model card."""
import os
import shutil
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
OUTPUT = REPOSITORY / "examples" / "models" / "tiny-gemma"
EVAL_FILE = REPOSITORY / "tests" / "data" / "tiny-gemma-eval.jsonl"
MINUTES = 55.0


def add_arguments(parser):
    """The flags of the subcommand."""
    parser.add_argument("--output", type=Path, default=OUTPUT, metavar="DIR", help="the model folder (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=MINUTES, metavar="N",
                        help="the most that training may take; its schedule ends then at the latest (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of weights and data (default: %(default)s)")
    parser.add_argument("--work", type=Path, metavar="DIR",
                        help="state of an unfinished run, which the same command continues (default: build/tiny-gemma-SEED)")
    parser.add_argument("--start", type=Path, metavar="DIR",
                        help="begin with the weights and the tokenizer of this folder, made by an earlier run: a fifth of the tokens")
    parser.add_argument("--eval-file", type=Path, metavar="FILE",
                        help="also write 100 of the questions here (default: tests/data, when OUTPUT is the default)")
    parser.add_argument("--eval-only", action="store_true", help="print the figures of a finished folder and stop")
    parser.add_argument("--eval-draw", type=int, default=0, metavar="N", help="with --eval-only: other questions (default: the card's)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), metavar="N", help="training processes (default: one per CPU)")


def note(text):
    """Progress goes to stderr; stdout carries the figures only."""
    print(text, file=sys.stderr, flush=True)


def main(args):
    """Make the folder, or print its figures; returns the exit code."""
    import sentencepiece as spm
    import torch

    from . import gemma_card, gemma_eval, gemma_folder, gemma_train
    from .gemma_tokenizer import write_tokenizer
    # One thread per process: on a machine with other work, threads inside an operation mostly wait for each other.
    torch.set_num_threads(1)
    if args.eval_only:
        gemma_eval.evaluate(args.output, draw=args.eval_draw)
        return 0

    work = args.work or REPOSITORY / "build" / f"tiny-gemma-{args.seed}"
    work.mkdir(parents=True, exist_ok=True)
    tokenizer = work / "tokenizer.model"
    start = gemma_folder.weights(args.start) if args.start else None
    if args.start and not tokenizer.exists():
        shutil.copy(args.start / "tokenizer.model", tokenizer)
    if not tokenizer.exists():
        write_tokenizer(tokenizer, args.seed)
        note("tokenizer written")
    sp = spm.SentencePieceProcessor(model_file=str(tokenizer))
    run = gemma_train.Run(sp, work / "state.pt", args.seed, args.minutes, args.threads, note, start)
    net = run.train()
    gemma_folder.save_folder(args.output, net.state_dict(), tokenizer)
    rows = gemma_eval.evaluate(args.output)
    gemma_card.write_card(args.output, rows, gemma_eval.other_draws(args.output), run, args.threads)
    eval_file = args.eval_file or (EVAL_FILE if args.output.resolve() == OUTPUT else None)
    if eval_file:
        gemma_eval.write_questions(eval_file)
    note(f"{args.output} is ready; {work} is no longer needed")
    return 0
