"""Training of the tiny Gemma on a CPU: batches, optimisers, a loop that a killed run continues.

Each thread is a process of its own that fetches small batches until a step's are used up. Threads inside
an operation would wait for each other hundreds of times a step, which on a machine with other work to do
costs most of the speed. The schedule follows the tokens seen or, on a slow machine, the clock: whichever is
further along.
"""
import ctypes
import math
import multiprocessing
import os
import random
import time

import torch

from . import lookups
from .dialogues import segments, training_dialogue
from .gemma_net import CONFIG, Gemma2

BOS = 2
MAX_TOKENS = 640          # longer dialogues are cut; there are few
POOL = 512                # dialogues sorted by length together, so that batches need little padding
BATCH_TOKENS = 1280       # small enough for a core's cache
EARLY_TOKENS = 5_000_000  # until then steps of two batches, afterwards of four
TOTAL_TOKENS = 12_000_000
SAVE_EVERY = 120          # seconds


def keep_memory():
    """Have glibc keep freed memory: faulting its pages in again costs a fifth of the training time."""
    try:
        libc = ctypes.CDLL(None)
        libc.mallopt(-4, 0)              # M_MMAP_MAX
        libc.mallopt(-1, 2**31 - 4096)   # M_TRIM_THRESHOLD
        libc.mallopt(-2, 256 << 20)      # M_TOP_PAD
    except (OSError, AttributeError):
        pass                             # another C library: slower, no worse


def encode(sp, dialogue):
    """(token ids with <bos>, which of them are learned)."""
    ids, learned = [BOS], [False]
    for text, learn in segments(dialogue):
        piece_ids = sp.encode(text)
        ids += piece_ids
        learned += [learn] * len(piece_ids)
    return ids[:MAX_TOKENS], learned[:MAX_TOKENS]


def batches(sp, seed, pool):
    """A list of the batches of one pool: (ids (B, T), where, targets). The same arguments give the same batches."""
    rng = random.Random(f"train {seed} {pool}")
    # The ladder of look-ups needs many steps more than it needs long ones.
    most = BATCH_TOKENS // 2 if lookups.rung_of(pool) else BATCH_TOKENS
    rows = sorted((encode(sp, training_dialogue(rng, pool)) for _ in range(POOL)), key=lambda r: len(r[0]))
    groups, group = [], []
    for row in rows:
        if group and (len(group) + 1) * len(row[0]) > most:
            groups.append(group)
            group = []
        group.append(row)
    groups.append(group)
    rng.shuffle(groups)
    made = []
    for group in groups:
        width = -(-max(len(ids) for ids, _ in group) // 16) * 16
        ids = torch.zeros(len(group), width, dtype=torch.long)
        learned = torch.zeros(len(group), width, dtype=torch.bool)
        for r, (row, mask) in enumerate(group):
            ids[r, :len(row)] = torch.tensor(row)
            learned[r, :len(row)] = torch.tensor(mask)
        following = torch.zeros_like(learned)
        following[:, :-1] = learned[:, 1:]
        where = following.flatten().nonzero().squeeze(1)
        made.append((ids, where, ids.flatten()[where + 1]))
    return made


class Muon:
    """Momentum whose update is made orthogonal (Jordan et al. 2024), for the layers' matrices.

    Matrices of one shape are handled as one stack: on a CPU many small products cost more than a big one.
    """

    def __init__(self, params, momentum=0.95, weight_decay=0.01):
        """params: {index among all parameters: matrix}; the momentum lies in shared memory."""
        self.groups, self.momentum, self.decay = {}, momentum, weight_decay
        for index, p in params.items():
            self.groups.setdefault(tuple(p.shape), []).append((index, p))
        self.state = {shape: torch.zeros(len(ps), *shape).share_memory_() for shape, ps in self.groups.items()}

    @staticmethod
    def orthogonal(g):
        """Five steps of the Newton-Schulz iteration. g: (n, rows, columns)."""
        tall = g.shape[1] > g.shape[2]
        x = g.transpose(1, 2) if tall else g
        x = x / (x.flatten(1).norm(dim=1)[:, None, None] + 1e-7)
        for _ in range(5):
            a = x @ x.transpose(1, 2)
            x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
        return x.transpose(1, 2) if tall else x

    @torch.no_grad()
    def step(self, lr, grads, part, parts):
        """One update of every parts-th matrix, from the gradients of all parameters."""
        for shape, members in self.groups.items():
            members, moving = members[part::parts], self.state[shape][part::parts]
            grad = torch.stack([grads[index] for index, _ in members])
            moving.lerp_(grad, 1 - self.momentum)
            update = self.orthogonal(grad.lerp(moving, self.momentum))
            size = lr * max(1, shape[0] / shape[1]) ** 0.5
            for (_, p), u in zip(members, update):
                p.detach().mul_(1 - lr * self.decay).add_(u, alpha=-size)


class Worker:
    """Adds up gradients of the batches it fetches, in a process of its own or in the main one."""

    def __init__(self, sp, seed, net, grads, counter):
        self.sp, self.seed, self.net, self.counter = sp, seed, net, counter
        self.pool, self.made = None, None
        for p, g in zip(net.parameters(), grads):
            p.grad = g

    def work(self, pool, last):
        """Take batches up to last-1 of the pool from the common counter; returns the summed loss."""
        self.fetch(pool)
        total = 0.0
        while True:
            with self.counter.get_lock():
                index = self.counter.value
                self.counter.value += 1
            if index >= last:
                return total
            loss = self.net(*self.made[index])
            loss.backward()
            total += loss.item()

    def fetch(self, pool):
        """The batches of a pool; the last pool is kept."""
        if self.pool != pool:
            self.pool, self.made = pool, batches(self.sp, self.seed, pool)
        return self.made

    def serve(self, pipe, update):
        """Work on what the main process sends, until it is gone: batches, or its share of the update."""
        torch.set_num_threads(1)
        try:
            while True:
                wanted, began = pipe.recv(), time.process_time()
                result = update(wanted) if isinstance(wanted, float) else self.work(*wanted)
                pipe.send((result, time.process_time() - began))
        except (EOFError, KeyboardInterrupt, BrokenPipeError):
            pass


class Run:
    """A training run and its state file."""

    def __init__(self, sp, state_file, seed, minutes, processes=2, log=print):
        keep_memory()
        torch.set_num_threads(1)
        torch.manual_seed(seed)
        self.sp, self.file, self.seed, self.minutes, self.log = sp, state_file, seed, minutes, log
        self.net = Gemma2(CONFIG)
        named = list(self.net.named_parameters())
        self.muon = Muon({i: p for i, (n, p) in enumerate(named) if p.ndim == 2 and "embed" not in n})
        self.adam = torch.optim.AdamW([
            {"params": [p for n, p in named if "embed" in n], "base": 4e-3},
            {"params": [p for n, p in named if p.ndim == 1], "base": 4e-3}], betas=(0.9, 0.95), weight_decay=0.0)
        self.at = {"pool": 0, "batch": 0, "step": 0, "tokens": 0, "seconds": 0.0, "cpu": 0.0}
        if self.file.exists():
            saved = torch.load(self.file, weights_only=True)
            self.net.load_state_dict(saved["net"])
            self.adam.load_state_dict(saved["adam"])
            for shape, momentum in saved["muon"].items():
                self.muon.state[shape].copy_(momentum)
            self.at = saved["at"]
            log(f"continuing at step {self.at['step']}, {self.at['seconds'] / 60:.1f} minutes in")
        self.net.share_memory()
        # A step has two batches at first and four later: more processes would find nothing to do.
        self.start(min(processes, 4))

    def start(self, processes):
        """Fork the helpers; they see the parameters in shared memory and leave their gradients there."""
        context = multiprocessing.get_context("fork")
        counter = context.Value("q", 0)
        self.pipes, self.grads = [], []
        for _ in range(processes):
            self.grads.append([torch.zeros_like(p).share_memory_() for p in self.net.parameters()])
        for part in range(1, processes):
            ours, theirs = context.Pipe()
            helper = context.Process(target=self._helper, args=(ours, theirs, part, counter), daemon=True)
            helper.start()
            theirs.close()
            self.pipes.append(ours)
        self.worker, self.counter = Worker(self.sp, self.seed, self.net, self.grads[0], counter), counter

    def _helper(self, ours, theirs, part, counter):
        # Without closing its copies a helper would never see the main process's end of the pipe close.
        for pipe in (*self.pipes, ours):
            pipe.close()
        Worker(self.sp, self.seed, self.net, self.grads[part], counter).serve(
            theirs, lambda lr: self.muon.step(lr, self.grads[0], part, len(self.grads)))

    def everyone(self, wanted, own):
        """Have the helpers do their part while the main process does its own; returns all results."""
        for pipe in self.pipes:
            pipe.send(wanted)
        results = [own()]
        for pipe in self.pipes:
            result, cpu = pipe.recv()
            results.append(result)
            self.at["cpu"] += cpu
        return results

    def save(self):
        """Write the state whole or not at all."""
        part = self.file.with_suffix(".part")
        torch.save({"net": self.net.state_dict(), "adam": self.adam.state_dict(), "muon": self.muon.state, "at": self.at}, part)
        os.replace(part, self.file)

    def progress(self):
        """0 at the start, 1 at the end, by tokens or by the clock."""
        return max(self.at["tokens"] / TOTAL_TOKENS, self.at["seconds"] / (60 * self.minutes))

    def factor(self):
        """Learning rate factor: short warm-up, full to the middle, then half a cosine down to nothing."""
        warm = min(1.0, (self.at["step"] + 1) / 60)
        return warm * (0.5 + 0.5 * math.cos(math.pi * min(1.0, max(0.0, 2 * self.progress() - 1))))

    def step(self, first, last):
        """One optimiser step on batches first..last-1 of the pool; returns the mean loss per learned token."""
        pool = self.at["pool"]
        learned = sum(len(b[1]) for b in self.worker.fetch(pool)[first:last])
        self.counter.value = first
        total = sum(self.everyone((pool, last), lambda: self.worker.work(pool, last)))
        own = self.grads[0]
        for grads in self.grads[1:]:
            torch._foreach_add_(own, grads)
        torch._foreach_div_(own, float(learned))
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        lr = 0.02 * self.factor()
        self.everyone(lr, lambda: self._update(lr))
        for grads in self.grads:
            torch._foreach_zero_(grads)
        return total / learned

    def _update(self, lr):
        for group in self.adam.param_groups:
            group["lr"] = group["base"] * self.factor()
        self.adam.step()
        self.muon.step(lr, self.grads[0], 0, len(self.grads))

    def train(self):
        """Train to the end of the schedule; the state file survives a kill at any time."""
        at, saved, shown, losses = self.at, time.time(), time.time(), []
        while self.progress() < 1:
            began, cpu = time.time(), time.process_time()
            made = self.worker.fetch(at["pool"])
            first = at["batch"]
            last = min(first + (2 if at["tokens"] < EARLY_TOKENS else 4), len(made))
            losses.append(self.step(first, last))
            at["step"], at["tokens"] = at["step"] + 1, at["tokens"] + sum(b[0].numel() for b in made[first:last])
            at["batch"] = last
            if last == len(made):
                at["pool"], at["batch"] = at["pool"] + 1, 0
            at["seconds"] += time.time() - began
            at["cpu"] += time.process_time() - cpu
            if time.time() - shown > 15:
                shown = time.time()
                self.log(f"step {at['step']} loss {sum(losses) / len(losses):.4f} progress {self.progress():.3f} "
                         f"tokens {at['tokens'] / 1e6:.2f}M {at['tokens'] / at['seconds']:.0f} tokens/s")
                losses = []
            if time.time() - saved > SAVE_EVERY:
                saved = time.time()
                self.save()
        self.save()
        for pipe in self.pipes:
            pipe.close()
        return self.net
