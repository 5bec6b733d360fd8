"""llama.cpp through llama-cpp-python: `make` turns a Gemma 2 folder in bf16 into a GGUF file, `measure` times one; a JSON line each."""
import argparse
import json
import os
import time

START = time.perf_counter()
NORMS = {"input_layernorm": "attn_norm", "post_attention_layernorm": "post_attention_norm", "pre_feedforward_layernorm": "ffn_norm",
         "post_feedforward_layernorm": "post_ffw_norm"}
MAPS = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}


def tensors_of(folder):
    """Names and bf16 tensors of model.safetensors, as 16-bit numbers on mapped pages."""
    import numpy
    path = os.path.join(folder, "model.safetensors")
    with open(path, "rb") as f:
        length = int.from_bytes(f.read(8), "little")
        header = json.loads(f.read(length))
    header.pop("__metadata__", None)
    data = numpy.memmap(path, dtype=numpy.uint8, mode="r")
    for name, info in header.items():
        if info["dtype"] != "BF16":
            raise SystemExit(f"{name} is {info['dtype']}, expected BF16")
        begin, end = (8 + length + offset for offset in info["data_offsets"])
        yield name, data[begin:end].view(numpy.uint16).reshape(info["shape"])


def gguf_name(name):
    """llama.cpp's name of a tensor of the Hugging Face folder."""
    if name == "model.embed_tokens.weight":
        return "token_embd.weight"
    if name == "model.norm.weight":
        return "output_norm.weight"
    _, _, layer, rest = name.split(".", 3)
    return f"blk.{layer}.{(NORMS | MAPS)[rest.removesuffix('.weight')]}.weight"


def write_bf16(folder, path):
    import gguf
    import numpy
    from sentencepiece import SentencePieceProcessor
    with open(os.path.join(folder, "config.json"), encoding="utf-8") as f:
        config = json.load(f)
    writer = gguf.GGUFWriter(path, "gemma2")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_attn_logit_softcapping(config["attn_logit_softcapping"])
    writer.add_final_logit_softcapping(config["final_logit_softcapping"])
    writer.add_sliding_window(config["sliding_window"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    sp = SentencePieceProcessor(model_file=os.path.join(folder, "tokenizer.model"))
    kinds = [2 if sp.is_unknown(i) else 3 if sp.is_control(i) else 6 if sp.is_byte(i) else 1 for i in range(sp.vocab_size())]
    writer.add_tokenizer_model("llama")
    writer.add_token_list([sp.id_to_piece(i).encode() for i in range(sp.vocab_size())])
    writer.add_token_scores([sp.get_score(i) for i in range(sp.vocab_size())])
    writer.add_token_types(kinds)
    writer.add_bos_token_id(sp.bos_id())
    writer.add_eos_token_id(sp.eos_id())
    writer.add_unk_token_id(sp.unk_id())
    writer.add_add_space_prefix(False)
    for name, numbers in tensors_of(folder):
        if numbers.ndim == 1:  # norms: llama.cpp holds 1 + w
            wide = (numbers.astype(numpy.uint32) << 16).view(numpy.float32) + 1
            writer.add_tensor(gguf_name(name), wide)
        else:
            writer.add_tensor(gguf_name(name), numbers.view(numpy.uint8), raw_dtype=gguf.GGMLQuantizationType.BF16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def make(a):
    from llama_cpp import llama_cpp
    partial = a.output + ".partial"
    if a.type == "BF16":
        write_bf16(a.folder, partial)
    else:
        source = os.path.join(os.path.dirname(a.output), os.path.basename(a.output).replace(a.type, "BF16"))
        if not os.path.exists(source):
            write_bf16(a.folder, source + ".partial")
            os.replace(source + ".partial", source)
        options = llama_cpp.llama_model_quantize_default_params()
        options.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{a.type}")
        if llama_cpp.llama_model_quantize(source.encode(), partial.encode(), options) != 0:
            raise SystemExit("llama.cpp could not quantise the file")
    os.replace(partial, a.output)


def measure(a):
    import llama_cpp
    model = llama_cpp.Llama(a.file, n_ctx=1024, n_batch=512, n_ubatch=512, n_threads=a.threads, n_threads_batch=a.threads, verbose=False)
    result = {"load_s": time.perf_counter() - START, "version": f"llama-cpp-python {llama_cpp.__version__}"}

    def ids(n):
        return [2] + [1000 + i * 37 % 3000 for i in range(n - 1)]

    model.eval(ids(16))
    for n in a.prefill:
        model.reset()
        start = time.perf_counter()
        model.eval(ids(n))
        result[f"prefill_{n}"] = n / (time.perf_counter() - start)
    model.reset()
    model.eval(ids(32))
    start = time.perf_counter()
    for i in range(a.decode):
        model.eval([1000 + i])
    result["decode"] = a.decode / (time.perf_counter() - start)
    print(json.dumps(result), flush=True)


def main():
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    p = commands.add_parser("make")
    p.add_argument("folder")
    p.add_argument("output")
    p.add_argument("type", choices=["BF16", "Q8_0", "Q4_K_M"])
    p = commands.add_parser("measure")
    p.add_argument("file")
    p.add_argument("--threads", type=int, required=True)
    p.add_argument("--prefill", type=int, nargs="+", required=True)
    p.add_argument("--decode", type=int, required=True)
    a = parser.parse_args()
    make(a) if a.command == "make" else measure(a)


if __name__ == "__main__":
    main()
