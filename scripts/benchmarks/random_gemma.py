"""Gemma 2 folders with random weights: the 2B shape for speed and memory, a small one for what must hold of any model.

The tokenizer is the shipped model's; at the 2B shape it is filled up with pseudo-words to 256,000 pieces, so that opening
costs what it costs with a published folder.
"""
import json
import os
import shutil

CONFIG = {
    "architectures": ["Gemma2ForCausalLM"], "model_type": "gemma2", "attention_bias": False, "attn_logit_softcapping": 50.0,
    "final_logit_softcapping": 30.0, "bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0, "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 2304, "intermediate_size": 9216, "max_position_embeddings": 8192,
    "num_attention_heads": 8, "num_hidden_layers": 26, "num_key_value_heads": 4, "query_pre_attn_scalar": 256,
    "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "sliding_window": 4096, "tie_word_embeddings": True,
    "torch_dtype": "bfloat16", "vocab_size": 256000}


SMALL = {**CONFIG, "head_dim": 32, "hidden_size": 64, "intermediate_size": 128, "max_position_embeddings": 1024,
         "num_attention_heads": 2, "num_hidden_layers": 2, "num_key_value_heads": 1, "query_pre_attn_scalar": 32,
         "sliding_window": 128, "vocab_size": 4096}


def tensors(config):
    """Names and shapes, as in the published checkpoint."""
    d, f = config["hidden_size"], config["intermediate_size"]
    q, kv = config["num_attention_heads"] * config["head_dim"], config["num_key_value_heads"] * config["head_dim"]
    yield "model.embed_tokens.weight", (config["vocab_size"], d)
    for i in range(config["num_hidden_layers"]):
        layer = f"model.layers.{i}."
        for norm in ("input", "post_attention", "pre_feedforward", "post_feedforward"):
            yield f"{layer}{norm}_layernorm.weight", (d,)
        for name, shape in (("q_proj", (q, d)), ("k_proj", (kv, d)), ("v_proj", (kv, d)), ("o_proj", (d, q))):
            yield f"{layer}self_attn.{name}.weight", shape
        for name, shape in (("gate_proj", (f, d)), ("up_proj", (f, d)), ("down_proj", (d, f))):
            yield f"{layer}mlp.{name}.weight", shape
    yield "model.norm.weight", (d,)


def write_tokenizer(folder, source, config):
    from sentencepiece import sentencepiece_model_pb2 as pb
    model = pb.ModelProto()
    with open(os.path.join(source, "tokenizer.model"), "rb") as f:
        model.ParseFromString(f.read())
    lowest = min(p.score for p in model.pieces)
    for i in range(config["vocab_size"] - len(model.pieces)):
        model.pieces.add(piece=f"\u2581filler{i}x", score=lowest - 1 - i, type=pb.ModelProto.SentencePiece.NORMAL)
    with open(os.path.join(folder, "tokenizer.model"), "wb") as f:
        f.write(model.SerializeToString())


def make(folder, tokenizer_source, config=CONFIG):
    import torch
    from safetensors.torch import save_file
    partial = folder + ".partial"
    shutil.rmtree(partial, ignore_errors=True)
    os.makedirs(partial)
    write_tokenizer(partial, tokenizer_source, config)
    generator = torch.Generator().manual_seed(0)
    weights = {name: torch.empty(shape, dtype=torch.bfloat16).normal_(0, 0.02, generator=generator) for name, shape in tensors(config)}
    save_file(weights, os.path.join(partial, "model.safetensors"), metadata={"format": "pt"})
    with open(os.path.join(partial, "config.json"), "w", encoding="utf-8") as f:
        json.dump(config, f, indent=1)
    os.replace(partial, folder)
