"""The stages that train the tiny Stable Diffusion: autoencoder, latents, UNet. (The text encoder's is in sd_text.)

Every stage keeps its state in a file that a killed run continues from.
"""
import copy
import random

import torch
from torch.nn import functional as F

from .captions import BACKGROUNDS, COLOURS, POSITIONS, SHAPES, SIZES, Item, Scene, caption, sample_caption_scene
from .draw import complete, draw
from .sd_loop import Loop, save_whole
from .sd_look import Looking
from .sd_parts import SCHEDULER_CONFIG, SIZE
from .sd_text import tokenize

VAE_STEPS, VAE_BATCH = 3000, 8
SCENES, DOUBLE = 64_000, 0.5
UNET_STEPS, UNET_BATCH = 21_000, 32
LOW_PART = 0.9       # of the training computes in bfloat16, which takes two thirds of the time
NOISY = 1.4          # above 1 the noisy end of the schedule is seen more often
DROPPED = 0.1        # captions left out, for guidance
# The last stage: what the UNet says at TAUGHT comes out at the GUIDANCE that everybody uses without a thought.
GUIDANCE, TAUGHT, GUIDANCE_STEPS, GUIDANCE_BATCH, GUIDED = 7.5, 3.0, 1_000, 16, 0.1
LOOKING, LOOKING_PART = 0.1, 0.5  # weight of the loss of sd_look at first, and the part of the training in which it falls to nothing


def scene_and_caption(rng):
    """A complete scene, and a caption that may leave some of it open."""
    said = sample_caption_scene(rng, False, 2 if rng.random() < DOUBLE else 1)
    return complete(rng, said), caption(said)


def crowd(rng):
    """A scene with shapes in most places, any colours: in it there is more to learn for an autoencoder than in flat ground."""
    background = rng.choice(BACKGROUNDS)
    colours = [c for c in COLOURS if c != background]
    return Scene(tuple(Item(rng.choice(SHAPES), rng.choice(colours), rng.choice(SIZES), position)
                       for position in POSITIONS if rng.random() < 0.8), background)


def pictures(rng, count):
    """(count, 3, SIZE, SIZE) in [-1, 1], every other one of a crowd."""
    return torch.stack([draw(rng, crowd(rng) if n % 2 else scene_and_caption(rng)[0], SIZE) for n in range(count)]) * 2 - 1


def train_vae(vae, work, seed, processes, log):
    """Reconstruction with a light pull of the latents towards the unit normal."""
    def compute(member, step):
        picture = pictures(random.Random(f"vae {seed} {step} {member}"), VAE_BATCH // processes)
        torch.manual_seed(hash((seed, step, member)) % 2**31)
        posterior = vae.encode(picture).latent_dist
        made = vae.decode(posterior.sample()).sample
        pull = 0.5 * (posterior.mean ** 2 + posterior.var - 1 - posterior.logvar).mean()
        return F.l1_loss(made, picture) + F.mse_loss(made, picture) + 2e-5 * pull

    loop = Loop("autoencoder", [vae], compute, steps=VAE_STEPS, lr=1e-3, file=work / "vae.pt", processes=processes, log=log, average=0.99)
    loop.run()
    vae.eval()
    return loop.at


@torch.no_grad()
def encode_scenes(vae, tokenizer, work, seed, log):
    """(latents (N, 4, h, w), captions as ids (N, words)), drawn and encoded once."""
    file = work / "scenes.pt"
    if not file.exists():
        rng, latents, ids = random.Random(f"scenes {seed}"), [], []
        for start in range(0, SCENES, 50):
            pairs = [scene_and_caption(rng) for _ in range(50)]
            batch = torch.stack([draw(rng, scene, SIZE) for scene, _ in pairs]) * 2 - 1
            latents.append(vae.encode(batch).latent_dist.mean.half())
            ids.append(tokenize(tokenizer, [c for _, c in pairs]).short())
            if start % 10_000 == 0:
                log(f"scenes: {start} of {SCENES}")
        save_whole({"latents": torch.cat(latents), "ids": torch.cat(ids)}, file)
    saved = torch.load(file, weights_only=True)
    return saved["latents"], saved["ids"].long()


def signal(config):
    """alphas_cumprod of the schedule, its last one zero: (steps,)."""
    from diffusers import DDIMScheduler
    return DDIMScheduler(**config).alphas_cumprod


@torch.no_grad()
def read(text, ids):
    """The text encoder's last hidden states (N, words, WIDTH) in half precision."""
    return torch.cat([text(part).last_hidden_state.half() for part in ids.split(200)])


def times_of(rng, count, steps):
    """(count,) steps of the noise schedule, one from each of `count` equal parts of it: a steadier loss than independent draws."""
    u = (torch.randperm(count, generator=rng) + torch.rand(count, generator=rng)) / count
    return ((1 - u ** NOISY) * steps).long().clamp_(0, steps - 1)


def noised(rng, x, a):
    """(noisy latents, v) of the latents x at a, the part of the signal that is left."""
    a = a.view(-1, 1, 1, 1)
    noise = torch.randn(x.shape, generator=rng)
    return a.sqrt() * x + (1 - a).sqrt() * noise, a.sqrt() * noise - (1 - a).sqrt() * x


class Float32Scores:
    """diffusers' plain attention, its scores in float32 also under autocast: on CPUs bfloat16's backward pass is slow there."""

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, temb=None):
        states = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        q, k, v = (to(x).unflatten(-1, (attn.heads, -1)).transpose(1, 2)
                   for to, x in ((attn.to_q, hidden_states), (attn.to_k, states), (attn.to_v, states)))
        with torch.autocast("cpu", enabled=False):
            found = F.scaled_dot_product_attention(q.float(), k.float(), v.float(), attn_mask=attention_mask)
        return attn.to_out[1](attn.to_out[0](found.transpose(1, 2).flatten(2)))


def train_unet(unet, text, scenes, scale, empty, work, seed, processes, log):
    """v-prediction. text: already trained; scale: latents times it have unit variance; empty: ids of no caption."""
    latents, ids = scenes
    hidden, nothing = read(text, ids), read(text, empty[None])[0]
    alphas = signal(SCHEDULER_CONFIG)
    count = UNET_BATCH // processes
    looking = Looking(unet)
    unet.set_attn_processor(Float32Scores())

    def compute(member, step):
        rng = torch.Generator().manual_seed((seed * 1_000_003 + step) * 16 + member)
        rows = torch.randint(len(ids), (count,), generator=rng)
        words = hidden[rows].float()
        words[torch.rand(count, generator=rng) < DROPPED] = nothing.float()
        t = times_of(rng, count, len(alphas))
        noisy, v = noised(rng, latents[rows].float() * scale, alphas[t])
        weight = LOOKING * (1 - step / (LOOKING_PART * UNET_STEPS))
        looking.watching = weight > 0
        with torch.autocast("cpu", torch.bfloat16, enabled=step < LOW_PART * UNET_STEPS):
            made = unet(noisy, t, words).sample.float()
        loss = F.mse_loss(made, v)
        return loss + weight * looking.loss() if looking.watching else loss

    loop = Loop("unet", [unet], compute, steps=UNET_STEPS, lr=1e-3, file=work / "unet.pt", processes=processes, log=log, average=0.999)
    loop.run()
    looking.watching = False
    unet.eval()
    return loop.at


def train_guidance(unet, text, scenes, scale, empty, work, seed, processes, log):
    """Move the UNet's best guidance from TAUGHT to GUIDANCE; it is its own teacher.

    At guidance w the sampler follows u + w (c - u), u without and c with the caption. The teacher's flat colours overshoot above
    about three. So c moves towards u until GUIDANCE says what the teacher says at TAUGHT.
    """
    latents, ids = scenes
    hidden, nothing = read(text, ids), read(text, empty[None])[0].float()
    alphas = signal(SCHEDULER_CONFIG)
    count = GUIDANCE_BATCH // processes
    teacher = copy.deepcopy(unet).eval().requires_grad_(False)

    def both(model, noisy, t, words):
        """(without captions, difference that captions make)."""
        without, captioned = model(torch.cat([noisy, noisy]), torch.cat([t, t]), words).sample.chunk(2)
        return without, captioned - without

    def compute(member, step):
        rng = torch.Generator().manual_seed((seed * 1_000_003 + step) * 16 + member)
        rows = torch.randint(len(ids), (count,), generator=rng)
        words = torch.cat([nothing.expand(count, -1, -1), hidden[rows].float()])
        t = times_of(rng, count, len(alphas))
        noisy = noised(rng, latents[rows].float() * scale, alphas[t])[0]
        with torch.no_grad():
            without, difference = both(teacher, noisy, t, words)
        made, moved = both(unet, noisy, t, words)
        return F.mse_loss(made, without) + GUIDED * F.mse_loss(made + GUIDANCE * moved, without + TAUGHT * difference)

    loop = Loop("guidance", [unet], compute, steps=GUIDANCE_STEPS, lr=3e-4, file=work / "guidance.pt", processes=processes, log=log, average=0.99)
    loop.run()
    unet.eval()
    return loop.at
