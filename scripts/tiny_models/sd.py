"""The stages behind `make-tiny-models sd`: tokenizer, text encoder, autoencoder, UNet, guidance, folder, figures, card."""
import os
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
OUTPUT = REPOSITORY / "examples" / "models" / "tiny-sd"
EVAL_FILE = REPOSITORY / "tests" / "data" / "tiny-sd-eval.jsonl"


def add_arguments(parser):
    """The flags of the subcommand."""
    parser.add_argument("--output", type=Path, default=OUTPUT, metavar="DIR", help="the model folder (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of weights and data (default: %(default)s)")
    parser.add_argument("--work", type=Path, metavar="DIR",
                        help="state of an unfinished run, which the same command continues (default: build/tiny-sd-SEED)")
    parser.add_argument("--eval-file", type=Path, metavar="FILE",
                        help="also write 20 of the prompts here, and the palette beside it (default: tests/data, when OUTPUT is the default)")
    parser.add_argument("--eval-only", action="store_true", help="print the figures of a finished folder and stop")
    parser.add_argument("--threads", type=int, default=min(4, os.cpu_count()), metavar="N",
                        help="training processes (default: one per CPU, at most 4)")


def note(text):
    """Progress goes to stderr; stdout carries the figures only."""
    print(text, file=sys.stderr, flush=True)


def main(args):
    """Make the folder, or print its figures; returns the exit code."""
    import torch

    from . import sd_card, sd_eval
    from .crew import keep_memory
    if args.eval_only:
        sd_eval.evaluate(args.output)
        return 0
    torch.set_num_threads(1)
    keep_memory()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # processes are forked after the tokenizer has been used
    work = args.work or REPOSITORY / "build" / f"tiny-sd-{args.seed}"
    work.mkdir(parents=True, exist_ok=True)
    times = train(args, work)
    sd_card.write_card(args.output, sd_eval.evaluate(args.output), times)
    sd_eval.write_sheet(args.output)
    eval_file = args.eval_file or (EVAL_FILE if args.output.resolve() == OUTPUT else None)
    if eval_file:
        sd_eval.write_prompts(eval_file)
    note(f"{args.output} is ready; {work} is no longer needed")
    return 0


def train(args, work):
    """All stages and the folder; returns what each stage took."""
    from transformers import CLIPTokenizer

    from . import sd_folder, sd_parts, sd_text, sd_train
    from .sd_tokenizer import write_tokenizer
    if not (work / "tokenizer" / "tokenizer_config.json").exists():
        write_tokenizer(work / "tokenizer", args.seed)
    tokenizer = CLIPTokenizer.from_pretrained(work / "tokenizer")
    vae, unet, text = sd_parts.parts(len(tokenizer), args.seed)
    times = {"text": sd_text.train_text(text, tokenizer, work, args.seed, args.threads, note),
             "autoencoder": sd_train.train_vae(vae, work, args.seed, args.threads, note)}
    scenes = sd_train.encode_scenes(vae, tokenizer, work, args.seed, note)
    scale = round(1 / scenes[0].float().std().item(), 5)
    empty = sd_text.tokenize(tokenizer, [""])[0]
    times["unet"] = sd_train.train_unet(unet, text, scenes, scale, empty, work, args.seed, args.threads, note)
    times["guidance"] = sd_train.train_guidance(unet, text, scenes, scale, empty, work, args.seed, args.threads, note)
    sd_folder.save_folder(args.output, vae, unet, text, work / "tokenizer", scale)
    return times
