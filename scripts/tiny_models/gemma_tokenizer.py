"""The SentencePiece model of the tiny Gemma: Gemma's layout with some 3,600 learned pieces."""
import random
import re
import tempfile
from pathlib import Path

from .corpus import VOCABULARIES, sentences
from .dialogues import segments, mixed_dialogue
from .smalltalk import THINGS, TOPICS

VOCABULARY = 4096
FUNCTION_PIECES = ("<start_function_declaration>", "<end_function_declaration>", "<start_function_call>",
                   "<end_function_call>", "<start_function_response>", "<end_function_response>", "<escape>")
# Where FunctionGemma keeps them: seven of Gemma's unused places.
FIRST_FUNCTION_PIECE = 46
FIRST_UNUSED, LAST_UNUSED = 7, 105
TAGS = ("table caption thead tbody tfoot tr th td h1 h2 h3 h4 h5 h6 blockquote strong em b i u s sub sup code").split()


def fixed_pieces():
    """What stands before the byte pieces: control pieces, turns, runs of newlines and spaces, tags."""
    pieces = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<2mass>", "[@BOS@]"]
    pieces += [f"<unused{i}>" for i in range(LAST_UNUSED - FIRST_UNUSED + 1)]
    pieces[FIRST_FUNCTION_PIECE:FIRST_FUNCTION_PIECE + len(FUNCTION_PIECES)] = FUNCTION_PIECES
    pieces += ["<start_of_turn>", "<end_of_turn>"]
    pieces += ["\n" * n for n in range(1, 32)] + ["\u2581" * n for n in range(2, 32)]
    return pieces + [f"<{t}>" for t in TAGS] + [f"</{t}>" for t in TAGS]


def training_lines(seed):
    """What the pieces are learned from: the dialogues, and everyday words of three languages."""
    rng = random.Random(f"tokenizer {seed}")
    for _ in range(12000):
        for text, _ in segments(mixed_dialogue(rng, late=True)):
            yield from (part for part in re.split(r"<[a-z_]+>|\n", text) if part)
    yield from sentences(rng, 12000)
    # Every word once more in lower and upper case, alone and after a space.
    for word in THINGS + TOPICS + [w for vocabulary in VOCABULARIES for w in vocabulary]:
        for form in (word, word.capitalize(), " " + word, " " + word, f"The {word}", f" {word.capitalize()}"):
            yield form


def write_tokenizer(path, seed=0):
    """Learn the pieces and write tokenizer.model; returns nothing."""
    import sentencepiece as spm
    from sentencepiece import sentencepiece_model_pb2 as pb
    Piece = pb.ModelProto.SentencePiece
    fixed = fixed_pieces()
    with tempfile.TemporaryDirectory() as scratch:
        spm.SentencePieceTrainer.train(
            sentence_iterator=training_lines(seed), model_prefix=f"{scratch}/m", model_type="bpe",
            vocab_size=VOCABULARY - len(fixed) + 4, byte_fallback=True, split_digits=True, character_coverage=1.0,
            normalization_rule_name="identity", add_dummy_prefix=False, remove_extra_whitespaces=False,
            pad_id=0, eos_id=1, bos_id=2, unk_id=3, pad_piece="<pad>", eos_piece="<eos>", bos_piece="<bos>",
            unk_piece="<unk>", num_threads=2, minloglevel=2)
        model = pb.ModelProto()
        model.ParseFromString(Path(f"{scratch}/m.model").read_bytes())
    learned = [p.piece for p in model.pieces if p.type == Piece.NORMAL and p.piece not in fixed]
    kinds = {"<pad>": Piece.CONTROL, "<eos>": Piece.CONTROL, "<bos>": Piece.CONTROL, "<unk>": Piece.UNKNOWN}
    del model.pieces[:]
    for piece in fixed:
        model.pieces.append(Piece(piece=piece, score=0.0, type=kinds.get(piece, Piece.USER_DEFINED)))
    for byte in range(256):
        model.pieces.append(Piece(piece=f"<0x{byte:02X}>", score=0.0, type=Piece.BYTE))
    for rank, piece in enumerate(learned):
        model.pieces.append(Piece(piece=piece, score=-float(rank), type=Piece.NORMAL))
    unused = LAST_UNUSED - FIRST_UNUSED + 1
    while len(model.pieces) < VOCABULARY:
        model.pieces.append(Piece(piece=f"<unused{unused}>", score=0.0, type=Piece.USER_DEFINED))
        unused += 1
    model.trainer_spec.vocab_size = VOCABULARY
    # The trainer notes its own command line, with scratch paths; nobody needs those.
    model.trainer_spec.model_prefix = "tokenizer"
    path.write_bytes(model.SerializeToString())
    check(spm.SentencePieceProcessor(model_file=str(path)))


def check(sp):
    """Fail at once if the layout is not Gemma's."""
    assert sp.get_piece_size() == VOCABULARY
    places = {"<pad>": 0, "<eos>": 1, "<bos>": 2, "<unk>": 3, "<start_of_turn>": 106, "<end_of_turn>": 107, "\n": 108,
              "<0x00>": 217, "<0xFF>": 472, "<start_function_declaration>": 46, "<escape>": 52}
    for piece, place in places.items():
        assert sp.piece_to_id(piece) == place, (piece, sp.piece_to_id(piece))
    for text in ("<start_of_turn>user\nWhat is  this? 12 naïve Ærø 猫\n\n<end_of_turn>", " a", "a\n"):
        assert sp.decode(sp.encode(text)) == text, text
