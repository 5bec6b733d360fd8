"""Stable Diffusion folders with random weights: the shapes of 1.5 and XL for speed and memory, a small one to try things with.

The tokenizer is that of the tests: what is measured does not depend on the words.
"""
import json
import os
import shutil

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000, "steps_offset": 1}
VAE = {"latent_channels": 4, "layers_per_block": 2, "block_out_channels": [128, 256, 512, 512], "sample_size": 512,
       "down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4}
CLIP_L = {"vocab_size": 49408, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
          "eos_token_id": 2, "bos_token_id": 0, "pad_token_id": 1}
CLIP_G = {**CLIP_L, "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20,
          "hidden_act": "gelu", "projection_dim": 1280}
SMALL_TEXT = {**CLIP_L, "vocab_size": 95, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
SHAPES = {
    "sd15": {"unet": {"sample_size": 64, "block_out_channels": [320, 640, 1280, 1280], "cross_attention_dim": 768, "attention_head_dim": 8},
             "vae": VAE, "text": [CLIP_L], "side": 512},
    "sdxl": {"unet": {"sample_size": 128, "block_out_channels": [320, 640, 1280], "cross_attention_dim": 2048,
                      "attention_head_dim": [5, 10, 20], "transformer_layers_per_block": [1, 2, 10], "use_linear_projection": True,
                      "addition_embed_type": "text_time", "addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": 2816,
                      "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
                      "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"]},
             "vae": {**VAE, "sample_size": 1024, "scaling_factor": 0.13025}, "text": [CLIP_L, CLIP_G], "side": 1024},
    "tiny": {"unet": {"sample_size": 8, "block_out_channels": [32, 64], "cross_attention_dim": 64, "attention_head_dim": 8,
                      "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"], "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"]},
             "vae": {**VAE, "layers_per_block": 1, "block_out_channels": [32, 32, 32, 32], "sample_size": 64}, "text": [SMALL_TEXT], "side": 64},
    "tiny-xl": {"unet": {"sample_size": 8, "block_out_channels": [32, 64], "cross_attention_dim": 128, "attention_head_dim": 8,
                         "transformer_layers_per_block": [1, 2], "use_linear_projection": True, "addition_embed_type": "text_time",
                         "addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 6 * 8 + 64,
                         "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"], "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"]},
                "vae": {**VAE, "layers_per_block": 1, "block_out_channels": [32, 32, 32, 32], "sample_size": 64, "scaling_factor": 0.13025},
                "text": [SMALL_TEXT, {**SMALL_TEXT, "hidden_act": "gelu", "projection_dim": 64}], "side": 64},
}


def parts(shape):
    """(folder, library, class name, model) of each, one at a time: the largest would not fit together in fp32."""
    import diffusers
    import transformers
    wanted = SHAPES[shape]
    yield "unet", "diffusers", diffusers.UNet2DConditionModel(**wanted["unet"])
    yield "vae", "diffusers", diffusers.AutoencoderKL(**wanted["vae"])
    for i, config in enumerate(wanted["text"]):
        kind = transformers.CLIPTextModelWithProjection if i else transformers.CLIPTextModel
        yield "text_encoder" + ("_2" if i else ""), "transformers", kind(transformers.CLIPTextConfig(**config))


def restore_prefix(path):
    """transformers 5 leaves out the `text_model.` that published folders have."""
    from safetensors.torch import load_file, save_file
    file = os.path.join(path, "model.safetensors")
    plain = ("text_model.", "text_projection.")
    save_file({k if k.startswith(plain) else "text_model." + k: v for k, v in load_file(file).items()}, file, metadata={"format": "pt"})


def make(folder, shape):
    import torch
    partial = folder + ".partial"
    shutil.rmtree(partial, ignore_errors=True)
    os.makedirs(partial)
    torch.manual_seed(0)
    xl = len(SHAPES[shape]["text"]) > 1
    index = {"_class_name": "StableDiffusionXLPipeline" if xl else "StableDiffusionPipeline",
             "scheduler": ["diffusers", "DDIMScheduler"]}
    for name, library, model in parts(shape):
        model.to(torch.float16).save_pretrained(os.path.join(partial, name))
        index[name] = [library, type(model).__name__]
        if library == "transformers":
            restore_prefix(os.path.join(partial, name))
            tokenizer = name.replace("text_encoder", "tokenizer")
            shutil.copytree(os.path.join(ROOT, "tests", "data", "clip_text", "small"), os.path.join(partial, tokenizer))
            index[tokenizer] = ["transformers", "CLIPTokenizer"]
        del model
    if not xl:
        index.update(safety_checker=[None, None], feature_extractor=[None, None], image_encoder=[None, None], requires_safety_checker=False)
    os.makedirs(os.path.join(partial, "scheduler"))
    with open(os.path.join(partial, "scheduler", "scheduler_config.json"), "w", encoding="utf-8") as f:
        json.dump({"_class_name": "DDIMScheduler", "clip_sample": False, "set_alpha_to_one": False, **BETAS}, f, indent=1)
    with open(os.path.join(partial, "model_index.json"), "w", encoding="utf-8") as f:
        json.dump(index, f, indent=1)
    os.replace(partial, folder)
