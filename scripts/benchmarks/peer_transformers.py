"""One measurement of transformers: load, prefill of N tokens, decoding; one JSON line."""
import argparse
import json
import time

START = time.perf_counter()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--prefill", type=int, nargs="+", required=True)
    parser.add_argument("--decode", type=int, required=True)
    a = parser.parse_args()
    import torch
    import transformers
    torch.set_num_threads(a.threads)
    # Eager attention: transformers refuses sdpa for a model with soft caps.
    model = transformers.AutoModelForCausalLM.from_pretrained(a.model, dtype=torch.bfloat16, attn_implementation="eager").eval()
    result = {"load_s": time.perf_counter() - START, "transformers": transformers.__version__, "torch": torch.__version__}

    def ids(n):
        return torch.randint(1000, 4000, (1, n), generator=torch.Generator().manual_seed(n))

    with torch.inference_mode():
        model(input_ids=ids(16), use_cache=True)
        for n in a.prefill:
            start = time.perf_counter()
            model(input_ids=ids(n), use_cache=True, logits_to_keep=1).logits.sum().item()
            result[f"prefill_{n}"] = n / (time.perf_counter() - start)
        out = model(input_ids=ids(32), use_cache=True, logits_to_keep=1)
        token, cache = out.logits[:, -1:].argmax(-1), out.past_key_values
        start = time.perf_counter()
        for _ in range(a.decode):
            token = model(input_ids=token, past_key_values=cache, use_cache=True).logits[:, -1:].argmax(-1)
        token.item()
        result["decode"] = a.decode / (time.perf_counter() - start)
    print(json.dumps(result), flush=True)


main()
