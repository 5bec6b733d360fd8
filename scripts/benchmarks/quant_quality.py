"""scripts/bench quant-quality: how far tiny-gemma's predictions are from the original's in 8 and 4 bits, beside llama.cpp's formats.

Ours are gemma-quantize's own records. Of llama.cpp's Q8_0 and Q4_K_M only the weights are rounded, here, by least squares to what
the formats can hold; activations stay exact, which llama.cpp rounds to 8 bits as well. Calibration text comes from the generator of
the model's training data, the evaluation text from its held-out questions (tests/data/tiny-gemma-eval.jsonl).
"""
import argparse
import json
import os
import random
import tempfile

from benchmarks.measure import markdown, records, run
from benchmarks.text import ROOT

MODEL = os.path.join(ROOT, "examples", "models", "tiny-gemma")
#        label, arguments of gemma-quantize, calibrated?
OURS = (("int8", ["--bits", "8"], False), ("int4", ["--bits", "4"], False), ("int4, calibrated", ["--bits", "4"], True),
        ("int4, groups of 128, calibrated", ["--bits", "4", "--group", "128"], True))


def arguments(argv):
    p = argparse.ArgumentParser(prog="scripts/bench quant-quality")
    p.add_argument("--dialogues", type=int, default=300, help="of the calibration text")
    p.add_argument("--build", default=os.path.join(ROOT, "build", "release"))
    p.add_argument("--output", help="also write the table here")
    return p.parse_args(argv)


def write_texts(folder, count):
    """Calibration and evaluation text, JSON Lines of {"text"}."""
    from tiny_models.dialogues import segments, training_dialogue
    rng = random.Random("calibration")
    calibration = ["".join(text for text, _ in segments(training_dialogue(rng, 9))) for _ in range(count)]
    with open(os.path.join(ROOT, "tests", "data", "tiny-gemma-eval.jsonl"), encoding="utf-8") as f:
        evaluation = [row["prompt"] + row["answer"] + "<end_of_turn>\n" for row in map(json.loads, f)]
    paths = []
    for name, texts in (("calibration", calibration), ("evaluation", evaluation)):
        paths.append(os.path.join(folder, f"{name}.jsonl"))
        with open(paths[-1], "w", encoding="utf-8") as f:
            f.writelines(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts)
    return (*paths, evaluation)


def fit(x, levels, weights):
    """Scale and lowest value of the least weighted squared error for codes 0..levels: x (groups, n)."""
    import torch
    low, high = x.amin(1, keepdim=True).clamp(max=0), x.amax(1, keepdim=True)
    best = torch.full_like(low, float("inf"))
    scale, offset = torch.zeros_like(low), low.clone()
    for step in range(21):
        inverse = (levels - 1 + 0.1 * step) / (high - low).clamp(min=1e-20)
        q = ((x - low) * inverse).round().clamp(0, levels)
        sw, sq, sqq = weights.sum(1, True), (weights * q).sum(1, True), (weights * q * q).sum(1, True)
        sx, sqx = (weights * x).sum(1, True), (weights * q * x).sum(1, True)
        determinant = (sw * sqq - sq * sq).clamp(min=1e-20)
        s, m = (sw * sqx - sq * sx) / determinant, ((sqq * sx - sq * sqx) / determinant).clamp(max=0)
        s = torch.where(m == 0, sqx / sqq.clamp(min=1e-20), s)
        error = (weights * (s * q + m - x) ** 2).sum(1, True)
        better = error < best
        best, scale, offset = torch.where(better, error, best), torch.where(better, s, scale), torch.where(better, m, offset)
    return scale, offset


def q4_k(w):
    """Groups of 32 with scale and lowest value in 6 bits each, two f16 numbers for each 256."""
    import torch
    x = w.reshape(-1, 32)
    weights = (x * x).mean(1, keepdim=True).sqrt() + x.abs()
    scale, low = (t.reshape(-1, 8) for t in fit(x, 15, weights))
    d = (scale.amax(1, True) / 63).half().float()
    m = ((-low).amax(1, True) / 63).half().float()
    scale = d * (scale / d.clamp(min=1e-20)).round().clamp(0, 63)
    low = -m * (-low / m.clamp(min=1e-20)).round().clamp(0, 63)
    scale, low = scale.reshape(-1, 1), low.reshape(-1, 1)
    q = ((x - low) / scale.clamp(min=1e-20)).round().clamp(0, 15)
    return (torch.where(scale > 0, q * scale, torch.zeros_like(x)) + low).reshape(w.shape)


def q6_k(w):
    """Groups of 16 around 0 with a scale in 8 bits each, an f16 number for each 256."""
    import torch
    x = w.reshape(-1, 16)
    place = x.abs().argmax(1, keepdim=True)
    extreme = x.gather(1, place)
    best, scale = torch.full_like(extreme, -1), torch.zeros_like(extreme)
    for step in range(-9, 10):
        inverse = -(32 + 0.1 * step) / torch.where(extreme == 0, torch.ones_like(extreme), extreme)
        q = (x * inverse).round().clamp(-32, 31)
        weight = x * x
        sqx, sqq = (weight * q * x).sum(1, True), (weight * q * q).sum(1, True)
        gain = torch.where(sqq > 0, sqx * sqx / sqq.clamp(min=1e-30), torch.zeros_like(sqq))
        better = gain > best
        best, scale = torch.where(better, gain, best), torch.where(better, sqx / sqq.clamp(min=1e-30), scale)
    groups = scale.reshape(-1, 16)
    largest = groups.gather(1, groups.abs().argmax(1, keepdim=True))
    d = (largest / -128).half().float()
    scale = (d * (groups / torch.where(d == 0, torch.ones_like(d), d)).round().clamp(-128, 127)).reshape(-1, 1)
    q = (x / torch.where(scale == 0, torch.ones_like(scale), scale)).round().clamp(-32, 31)
    return (q * scale).reshape(w.shape)


def q8_0(w):
    x = w.reshape(-1, 32)
    scale = (x.abs().amax(1, True) / 127).half().float()
    return ((x / scale.clamp(min=1e-20)).round() * scale).reshape(w.shape)


def q4_k_m(name, layers):
    """Which format Q4_K_M has for a weight: the tied embedding, and half of two kinds, in 6 bits."""
    if "embed_tokens" in name:
        return q6_k
    if "v_proj" in name or "down_proj" in name:
        layer = int(name.split(".")[2])
        if layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2:
            return q6_k
    return q4_k


def peer_figures(texts):
    """{format: (bits for each weight, KL, perplexity, reference's, same first choice)}"""
    import sentencepiece
    import torch
    from transformers import Gemma2ForCausalLM

    sp = sentencepiece.SentencePieceProcessor(model_file=os.path.join(MODEL, "tokenizer.model"))
    rows = [torch.tensor([[2] + sp.encode(text)]) for text in texts]

    def load():
        return Gemma2ForCausalLM.from_pretrained(MODEL, dtype=torch.float32, attn_implementation="eager").eval()

    def predictions(net):
        with torch.inference_mode():
            return [torch.log_softmax(net(input_ids=ids).logits[0, :-1].double(), -1) for ids in rows]

    reference = predictions(load())
    bits = {q8_0: 8.5, q4_k: 4.5, q6_k: 6.5625}
    found = {}
    for name, pick in (("Q8_0", lambda n, layers: q8_0), ("Q4_K_M", q4_k_m)):
        net = load()
        size = weight = 0
        with torch.no_grad():
            for key, parameter in net.named_parameters():
                if parameter.dim() == 2:
                    rounding = pick(key, net.config.num_hidden_layers)
                    parameter.copy_(rounding(parameter.float()))
                    size, weight = size + parameter.numel() * bits[rounding], weight + parameter.numel()
        kl = surprise = reference_surprise = same = tokens = 0
        for p, q, ids in zip(reference, predictions(net), rows):
            targets = ids[0, 1:, None]
            kl += (p.exp() * (p - q)).sum().item()
            surprise -= q.gather(1, targets).sum().item()
            reference_surprise -= p.gather(1, targets).sum().item()
            same += (p.argmax(-1) == q.argmax(-1)).sum().item()
            tokens += len(targets)
        e = 2.718281828459045
        found[name] = (size / weight, kl / tokens, e ** (surprise / tokens), e ** (reference_surprise / tokens), same / tokens)
    return found


def main(argv):
    a = arguments(argv)
    tool = os.path.join(a.build, "bin", "gemma-quantize")
    rows, table = [], []
    with tempfile.TemporaryDirectory() as folder:
        calibration, evaluation, texts = write_texts(folder, a.dialogues)
        for i, (label, flags, calibrated) in enumerate(OURS):
            command = [tool, "--model", MODEL, *flags, "--output", os.path.join(folder, str(i)), "--json", "--evaluate", evaluation,
                       "--evaluate-tokens", "1000000", "--window", "1024"]
            record = records(run(command + (["--calibrate", calibration, "--calibrate-tokens", "65536"] if calibrated else []))[0])[0]
            rows.append((label, record["bits_per_weight"], record["kl_divergence"], record["perplexity"], record["reference_perplexity"],
                         record["same_top"]))
            tokens = record["tokens"]
    rows += [(f"{name}'s formats", *figures) for name, figures in peer_figures(texts).items()]
    for label, bits, kl, perplexity, reference, same in rows:
        table.append((label, f"{bits:.2f}", f"{kl:.2e}", f"{perplexity:.4f}", f"{reference:.4f}", f"{100 * same:.2f} %"))
    text = f"tiny-gemma, {tokens:,} tokens of held-out questions and answers:\n\n" + markdown(
        ("", "bits for each weight", "KL divergence", "perplexity", "of the original", "same first choice"), table) + "\n"
    print(text)
    if a.output:
        with open(a.output, "w", encoding="utf-8") as f:
            f.write(text)
    return 0
