"""Where the UNet's cross-attention learns to look: a loss of the first part of its training.

Each state behind the caption speaks of one thing (sd_text). Of each cross-attention's heads the first is taught to look, at every
place of the picture, at the states of that place, the second at those of the background, the third at those of shapes without
a place; the others are free. Left alone, attention that is spread evenly over all states finds this out very late: as long as it
does, what it reads says nothing about the place where it is read.
"""
import torch

from .captions import POSITIONS
from .draw import cells
from .sd_text import SHORT, SLOTS, THINGS, things
from .sd_tokenizer import LENGTH


def _masks():
    """(THINGS, LENGTH) bool: the states that speak of each thing."""
    behind = torch.arange(LENGTH)
    return (things(behind)[None] == torch.arange(THINGS)[:, None]) & (behind >= SHORT)


class Looking:
    """Watches the cross-attentions of a UNet while `watching` is set; `loss` is about its last forward pass."""

    def __init__(self, unet):
        self.watching, self.seen, masks = True, [], _masks()
        free = [1 + i for i in range(len(POSITIONS), len(SLOTS))]
        self.places, self.ground, self.somewhere = masks[1:1 + len(POSITIONS)], masks[0], masks[free].any(0)
        for name, module in unet.named_modules():
            if name.endswith("attn2"):
                module.register_forward_pre_hook(self._watch, with_kwargs=True)

    def _watch(self, module, args, kwargs):
        if self.watching:
            self.seen.append((module, args[0].float(), kwargs["encoder_hidden_states"].float()))

    def loss(self):
        """Mean of -log(the attention that is where it should be), over heads, places and layers."""
        found = []
        for module, hidden, states in self.seen:
            count, pixels, _ = hidden.shape
            q = module.to_q(hidden).view(count, pixels, module.heads, -1)[:, :, :3].transpose(1, 2)
            k = module.to_k(states).view(count, LENGTH, module.heads, -1)[:, :, :3].transpose(1, 2)
            at = (q @ k.transpose(2, 3) * module.scale).log_softmax(-1)  # (count, 3, pixels, LENGTH)
            right = torch.stack([self.places[cells(int(pixels ** 0.5)).flatten()], self.ground.expand(pixels, -1), self.somewhere.expand(pixels, -1)])
            found.append(-at.masked_fill(~right, float("-inf")).logsumexp(-1).mean())
        self.seen.clear()
        return sum(found) / len(found)
