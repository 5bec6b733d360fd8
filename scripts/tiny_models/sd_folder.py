"""The tiny Stable Diffusion's folder in diffusers' layout."""
import json
import shutil
import tempfile
from pathlib import Path

from .sd_parts import SCHEDULER_CONFIG


def save_folder(folder, vae, unet, text, tokenizer_folder, scale):
    """Write the folder as StableDiffusionPipeline.save_pretrained lays it out, with float16 weights.

    tokenizer_folder: vocab.json, merges.txt and configs, copied as they are; scale: what latents are multiplied by.
    """
    from diffusers import DDIMScheduler, StableDiffusionPipeline
    from transformers import CLIPTokenizer
    vae.register_to_config(scaling_factor=scale)
    pipeline = StableDiffusionPipeline(vae=vae.half(), text_encoder=text.half(), unet=unet.half(),
                                       tokenizer=CLIPTokenizer.from_pretrained(tokenizer_folder),
                                       scheduler=DDIMScheduler(**SCHEDULER_CONFIG), safety_checker=None, feature_extractor=None,
                                       requires_safety_checker=False)
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch) / "tiny-sd"
        pipeline.save_pretrained(made, safe_serialization=True)
        # The files that every release of transformers reads, and not the one that only newer ones write.
        shutil.rmtree(made / "tokenizer")
        shutil.copytree(tokenizer_folder, made / "tokenizer")
        for config in made.rglob("*.json"):
            _forget_places(config)
        _name_as_published(made / "text_encoder" / "model.safetensors")
        for weights in made.rglob("*.safetensors"):
            weights.chmod(0o644)
        if folder.exists():
            shutil.rmtree(folder)
        shutil.copytree(made, folder)


def _forget_places(config):
    """Configs note where they were loaded from; nobody needs that."""
    text = json.loads(config.read_text(encoding="utf-8"))
    if isinstance(text, dict) and text.pop("_name_or_path", None) is not None:
        config.write_text(json.dumps(text, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _name_as_published(file):
    """Newer releases of transformers leave out the prefix that all published text encoders have and every release reads."""
    from safetensors.torch import load_file, save_file
    prefix = "text_model."
    save_file({name if name.startswith(prefix) else prefix + name: value for name, value in load_file(file).items()},
              file, metadata={"format": "pt"})
