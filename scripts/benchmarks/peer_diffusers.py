"""One measurement of diffusers: load, text encoding, seconds per step, decoding; one JSON line."""
import argparse
import json
import time

START = time.perf_counter()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--dtype", required=True)
    parser.add_argument("--side", type=int, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--prompt", required=True)
    a = parser.parse_args()
    import diffusers
    import torch
    torch.set_num_threads(a.threads)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[a.dtype]
    pipe = diffusers.DiffusionPipeline.from_pretrained(a.model, torch_dtype=dtype)
    pipe.set_progress_bar_config(disable=True)
    result = {"load_s": time.perf_counter() - START, "diffusers": diffusers.__version__, "torch": torch.__version__}

    def timed(f):
        start = time.perf_counter()
        f()
        return time.perf_counter() - start

    starts, ends = [], []
    pipe.unet.register_forward_pre_hook(lambda *_: starts.append(time.perf_counter()))
    note = lambda pipe, step, t, kept: ends.append(time.perf_counter()) or kept

    def picture(steps):
        starts.clear()
        ends.clear()
        return pipe(a.prompt, width=a.side, height=a.side, num_inference_steps=steps, guidance_scale=7.5, output_type="latent",
                    generator=torch.Generator("cpu").manual_seed(1), callback_on_step_end=note).images

    with torch.inference_mode():
        latents = picture(1)  # warms up
        encode = lambda: pipe.encode_prompt(prompt=a.prompt, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=True)
        result["text_s"] = min(timed(encode) for _ in range(3))
        picture(a.steps)
        result["step_s"] = (ends[-1] - starts[0]) / a.steps
        decode = lambda: pipe.vae.decode(latents / pipe.vae.config.scaling_factor).sample.sum().item()
        result["decode_s"] = min(timed(decode) for _ in range(2))
    print(json.dumps(result), flush=True)


main()
