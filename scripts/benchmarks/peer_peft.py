"""One measurement of transformers + peft: LoRA on all linear maps, bf16, activation checkpointing; one JSON line."""
import argparse
import json
import statistics
import time


def main():
    p = argparse.ArgumentParser()
    p.add_argument("model")
    for name in ("--threads", "--tokens", "--rank", "--steps"):
        p.add_argument(name, type=int, required=True)
    a = p.parse_args()
    import peft
    import torch
    import transformers
    torch.set_num_threads(a.threads)
    # Eager attention: transformers refuses sdpa for a model with soft caps.
    model = transformers.AutoModelForCausalLM.from_pretrained(a.model, dtype=torch.bfloat16, attn_implementation="eager")
    model.config.use_cache = False
    model = peft.get_peft_model(model, peft.LoraConfig(
        r=a.rank, lora_alpha=a.rank, task_type="CAUSAL_LM",
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]))
    model.enable_input_require_grads()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.train()
    trained = [q for q in model.parameters() if q.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4)
    ids = torch.randint(1000, 4000, (1, a.tokens), generator=torch.Generator().manual_seed(0))
    seconds = []
    for _ in range(a.steps):
        start = time.perf_counter()
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seconds.append(time.perf_counter() - start)
    print(json.dumps({"step_s": statistics.median(seconds[1:]), "loss": loss.item(), "torch": torch.__version__,
                      "transformers": transformers.__version__, "peft": peft.__version__}), flush=True)


main()
