"""The stages that train the tiny Stable Diffusion: autoencoder, latents, then text encoder and UNet together.

Every stage keeps its state in a file that a killed run continues from.
"""
import copy
import math
import os
import random
import time

import torch
from torch.nn import functional as F

from .captions import caption, sample_caption_scene
from .crew import Crew
from .draw import complete, draw
from .sd_tokenizer import LENGTH

SIZE = 64
VAE_CONFIG = dict(in_channels=3, out_channels=3, latent_channels=4, sample_size=SIZE, layers_per_block=1, norm_num_groups=8,
                  block_out_channels=(16, 32, 64), down_block_types=("DownEncoderBlock2D",) * 3,
                  up_block_types=("UpDecoderBlock2D",) * 3)
UNET_CONFIG = dict(sample_size=SIZE // 4, in_channels=4, out_channels=4, layers_per_block=1, norm_num_groups=16,
                   block_out_channels=(32, 64, 128), cross_attention_dim=96, attention_head_dim=4,
                   down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
                   up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"))
TEXT_CONFIG = dict(hidden_size=96, intermediate_size=256, num_hidden_layers=3, num_attention_heads=4, projection_dim=96,
                   max_position_embeddings=LENGTH, hidden_act="quick_gelu")
# Zero terminal signal: with any left, every background would be drawn towards the mean brightness of the noise.
SCHEDULER_CONFIG = dict(num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
                        prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing",
                        set_alpha_to_one=False, steps_offset=1, clip_sample=False)
VAE_STEPS, VAE_BATCH = 4000, 16
SCENES = 60_000
UNET_STEPS, UNET_BATCH = 16_000, 64
DROPPED = 0.1        # captions left out, for guidance
SAVE_EVERY = 120     # seconds


def scene_and_caption(rng):
    """A complete scene, and a caption that may leave some of it open."""
    said = sample_caption_scene(rng, False)
    return complete(rng, said), caption(said)


def pictures(rng, count):
    """(count, 3, SIZE, SIZE) in [-1, 1]."""
    return torch.stack([draw(rng, scene_and_caption(rng)[0], SIZE) for _ in range(count)]) * 2 - 1


def save_whole(state, path):
    """Write a state file whole or not at all."""
    part = path.with_suffix(".part")
    torch.save(state, part)
    os.replace(part, path)


def cosine(step, steps, warm):
    """Learning rate factor: a short warm-up, then half a cosine down to nothing."""
    return min(1.0, (step + 1) / warm) * (0.5 + 0.5 * math.cos(math.pi * min(1.0, step / steps)))


class Loop:
    """Steps of one optimiser with a state file, an average of the weights, and lines of progress."""

    def __init__(self, name, modules, compute, *, steps, lr, file, processes, log, average=0.0):
        self.name, self.steps, self.file, self.log, self.average = name, steps, file, log, average
        self.modules, self.lr = modules, lr
        self.crew = None
        self.at = {"step": 0, "seconds": 0.0, "cpu": 0.0}
        self.optimizer = torch.optim.AdamW([p for m in modules for p in m.parameters()], lr=lr, betas=(0.9, 0.99), weight_decay=1e-4)
        self.smooth = [copy.deepcopy(m.state_dict()) for m in modules]
        if file.exists():
            saved = torch.load(file, weights_only=True)
            for module, weights in zip(modules, saved["weights"]):
                module.load_state_dict(weights)
            self.optimizer.load_state_dict(saved["optimizer"])
            self.smooth, self.at = saved["smooth"], saved["at"]
            log(f"{name}: continuing at step {self.at['step']} of {steps}")
        self.compute, self.processes = compute, processes

    def save(self):
        save_whole({"weights": [m.state_dict() for m in self.modules], "optimizer": self.optimizer.state_dict(),
                    "smooth": self.smooth, "at": self.at}, self.file)

    def run(self):
        """Train to the end; afterwards the modules hold the averaged weights."""
        if self.at["step"] < self.steps:
            self.crew = Crew(self.modules, self.compute, self.processes)
            self._train()
            self.crew.close()
        for module, weights in zip(self.modules, self.smooth):
            module.load_state_dict(weights)

    def _train(self):
        at, shown, saved, losses = self.at, time.time(), time.time(), []
        while at["step"] < self.steps:
            began, cpu, helped = time.time(), time.process_time(), self.crew.cpu
            losses.append(self.crew.gradients(at["step"]))
            torch.nn.utils.clip_grad_norm_(self.crew.params, 1.0)
            for group in self.optimizer.param_groups:
                group["lr"] = self.lr * cosine(at["step"], self.steps, 200)
            self.optimizer.step()
            self.crew.clear()
            at["step"] += 1
            self._smooth(min(self.average, at["step"] / (at["step"] + 10)))
            at["seconds"] += time.time() - began
            at["cpu"] += max(time.process_time() - cpu, self.crew.cpu - helped)
            if time.time() - shown > 20:
                shown = time.time()
                self.log(f"{self.name}: step {at['step']} of {self.steps}, loss {sum(losses) / len(losses):.4f}, "
                         f"{at['step'] / at['seconds']:.2f} steps/s")
                losses = []
            if time.time() - saved > SAVE_EVERY or at["step"] == self.steps:
                saved = time.time()
                self.save()

    @torch.no_grad()
    def _smooth(self, keep):
        for module, weights in zip(self.modules, self.smooth):
            for name, value in module.state_dict().items():
                if value.is_floating_point():
                    weights[name].lerp_(value, 1 - keep)
                else:
                    weights[name].copy_(value)


def train_vae(vae, work, seed, processes, log):
    """Reconstruction with a light pull of the latents towards the unit normal."""
    def compute(member, step):
        picture = pictures(random.Random(f"vae {seed} {step} {member}"), VAE_BATCH // processes)
        torch.manual_seed(hash((seed, step, member)) % 2**31)
        posterior = vae.encode(picture).latent_dist
        made = vae.decode(posterior.sample()).sample
        pull = 0.5 * (posterior.mean ** 2 + posterior.var - 1 - posterior.logvar).mean()
        return F.l1_loss(made, picture) + F.mse_loss(made, picture) + 3e-4 * pull

    loop = Loop("autoencoder", [vae], compute, steps=VAE_STEPS, lr=2e-3, file=work / "vae.pt", processes=processes, log=log, average=0.99)
    loop.run()
    vae.eval()
    return loop.at


@torch.no_grad()
def encode_scenes(vae, tokenizer, work, seed, log):
    """(latents (N, 4, h, w), captions as ids (N, LENGTH)), drawn and encoded once."""
    file = work / "scenes.pt"
    if not file.exists():
        rng, latents, ids = random.Random(f"scenes {seed}"), [], []
        for start in range(0, SCENES, 50):
            pairs = [scene_and_caption(rng) for _ in range(50)]
            batch = torch.stack([draw(rng, scene, SIZE) for scene, _ in pairs]) * 2 - 1
            latents.append(vae.encode(batch).latent_dist.mean.half())
            ids.append(tokenizer([c for _, c in pairs], padding="max_length", truncation=True, max_length=LENGTH,
                                 return_tensors="pt").input_ids.short())
            if start % 10_000 == 0:
                log(f"scenes: {start} of {SCENES}")
        save_whole({"latents": torch.cat(latents), "ids": torch.cat(ids)}, file)
    saved = torch.load(file, weights_only=True)
    return saved["latents"], saved["ids"].long()


def signal(config):
    """alphas_cumprod of the schedule, its last one zero: (steps,)."""
    from diffusers import DDIMScheduler
    return DDIMScheduler(**config).alphas_cumprod


def train_unet(unet, text, scenes, scale, empty, work, seed, processes, log):
    """v-prediction; text encoder and UNet learn together. scale: latents times it have unit variance."""
    latents, ids = scenes
    alphas = signal(SCHEDULER_CONFIG)
    count = UNET_BATCH // processes

    def compute(member, step):
        rng = torch.Generator().manual_seed((seed * 1_000_003 + step) * 16 + member)
        rows = torch.randint(len(ids), (count,), generator=rng)
        words = ids[rows].clone()
        words[torch.rand(count, generator=rng) < DROPPED] = empty
        # One time from each of `count` equal parts of the schedule: a steadier loss than independent draws.
        t = ((torch.randperm(count, generator=rng) + torch.rand(count, generator=rng)) / count * len(alphas)).long()
        a = alphas[t].view(-1, 1, 1, 1)
        x = latents[rows].float() * scale
        noise = torch.randn(x.shape, generator=rng)
        noisy, v = a.sqrt() * x + (1 - a).sqrt() * noise, a.sqrt() * noise - (1 - a).sqrt() * x
        return F.mse_loss(unet(noisy, t, text(words).last_hidden_state).sample, v)

    loop = Loop("unet", [unet, text], compute, steps=UNET_STEPS, lr=1e-3, file=work / "unet.pt", processes=processes, log=log, average=0.999)
    loop.run()
    unet.eval()
    text.eval()
    return loop.at
