"""Training loops that a killed run continues from their state files."""
import copy
import math
import os
import time

import torch

from .crew import Crew

SAVE_EVERY = 120     # seconds


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
        self.optimizer = torch.optim.AdamW([p for m in modules for p in m.parameters()], lr=lr, betas=(0.9, 0.99), weight_decay=1e-4, fused=True)
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
                group["lr"] = self.lr * cosine(at["step"], self.steps, max(1, min(200, self.steps // 20)))
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
        pairs = [(weights[name], value) for module, weights in zip(self.modules, self.smooth) for name, value in module.state_dict().items()]
        moving = [pair for pair in pairs if pair[0].is_floating_point()]
        torch._foreach_lerp_([kept for kept, _ in moving], [value for _, value in moving], 1 - keep)
        for kept, value in pairs:
            if not kept.is_floating_point():
                kept.copy_(value)
