"""One measurement of diffusers + peft: LoRA on the UNet's attention, batch 1, latents and text states given; one JSON line."""
import argparse
import json
import statistics
import time


def main():
    p = argparse.ArgumentParser()
    p.add_argument("model")
    for name in ("--threads", "--side", "--rank", "--steps"):
        p.add_argument(name, type=int, required=True)
    p.add_argument("--dtype", choices=("fp32", "bf16"), required=True)
    p.add_argument("--checkpointing", action="store_true")
    a = p.parse_args()
    import diffusers
    import peft
    import torch
    torch.set_num_threads(a.threads)
    torch.manual_seed(0)
    dtype = torch.float32 if a.dtype == "fp32" else torch.bfloat16
    unet = diffusers.UNet2DConditionModel.from_pretrained(a.model, subfolder="unet", torch_dtype=dtype)
    unet.requires_grad_(False)
    unet.add_adapter(peft.LoraConfig(r=a.rank, lora_alpha=a.rank, target_modules=["to_q", "to_k", "to_v", "to_out.0"]))
    trained = [q for q in unet.parameters() if q.requires_grad]
    for q in trained:  # as diffusers' training scripts: adapters in fp32, products under autocast
        q.data = q.data.float()
    if a.checkpointing:
        unet.enable_gradient_checkpointing()
    unet.train()
    scheduler = diffusers.DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    optimizer = torch.optim.AdamW(trained, lr=1e-4)
    latents = torch.randn(1, 4, a.side // 8, a.side // 8)
    context = torch.randn(1, 77, unet.config.cross_attention_dim).to(dtype)
    seconds = []
    for _ in range(a.steps):
        start = time.perf_counter()
        noise, timestep = torch.randn_like(latents), torch.randint(0, 1000, (1,))
        noised = scheduler.add_noise(latents, noise, timestep)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=a.dtype == "bf16"):
            prediction = unet(noised.to(dtype), timestep, context).sample
        loss = torch.nn.functional.mse_loss(prediction.float(), noise)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seconds.append(time.perf_counter() - start)
    print(json.dumps({"step_s": statistics.median(seconds[1:]), "loss": loss.item(), "torch": torch.__version__,
                      "diffusers": diffusers.__version__, "peft": peft.__version__}), flush=True)


main()
