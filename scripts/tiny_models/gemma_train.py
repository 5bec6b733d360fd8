"""Training of the tiny Gemma on a CPU: batches, optimisers, a loop that a killed run continues.

Each thread is a process of its own that takes some steps on its own dialogues; then the weights and moments of all are
averaged. Threads inside an operation, or gradients added up at each step, would wait for each other hundreds of times or more,
which on a machine with other work to do costs most of the speed. The schedule follows the tokens seen or, on a slow machine,
the clock: whichever is further along.
"""
import math
import multiprocessing
import os
import random
import time

import torch

from .crew import keep_memory
from .dialogues import segments, training_dialogue
from .gemma_net import CONFIG, LOW, Gemma2

BOS = 2
MAX_TOKENS = 640          # longer dialogues are cut; there are few
POOL = 512                # dialogues sorted by length together, so that batches need little padding
BATCH_TOKENS = 1280       # small enough for a core's cache
LATER_POOL = 10_000       # where the data of such a run begins
ROUND = 8                 # steps between two averagings
TOTAL_TOKENS = 12_000_000
LATER_TOKENS = 2_400_000  # of a run that begins with the weights of an earlier one
LATER_SHARE = 0.4         # of the rates of a whole run
SAVE_EVERY = 120          # seconds
MUON_RATE, ADAM_RATE = 0.02, 4e-3
LIMITED_SHARE = 0.3       # of the rate, for queries and keys


def encode(sp, dialogue):
    """(token ids with <bos>, which of them are learned)."""
    ids, learned = [BOS], [False]
    for text, learn in segments(dialogue):
        piece_ids = sp.encode(text)
        ids += piece_ids
        learned += [learn] * len(piece_ids)
    return ids[:MAX_TOKENS], learned[:MAX_TOKENS]


def batches(sp, seed, pool, part):
    """A list of the batches of one process's pool: (ids (B, T), where, targets). The same arguments give the same batches."""
    rng = random.Random(f"train {seed} {pool} {part}")
    rows = sorted((encode(sp, training_dialogue(rng, pool)) for _ in range(POOL)), key=lambda r: len(r[0]))
    groups, group = [], []
    for row in rows:
        if group and (len(group) + 1) * len(row[0]) > BATCH_TOKENS:
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

    def __init__(self, params, limited, momentum=0.95, weight_decay=0.01):
        """limited: those of params that change less and never get longer than they are now."""
        self.groups, self.momentum, self.decay = {}, momentum, weight_decay
        self.limits = {p: p.detach().norm() for p in limited}
        for p in params:
            self.groups.setdefault(tuple(p.shape), []).append(p)
        self.state = {shape: torch.zeros(len(ps), *shape) for shape, ps in self.groups.items()}

    @staticmethod
    def orthogonal(g):
        """Three steps of the Newton-Schulz iteration, which bfloat16 is exact enough for. g: (n, rows, columns).

        Singular values below a fiftieth of the usual stay smaller than the others, which does no harm here.
        """
        tall = g.shape[1] > g.shape[2]
        x = g.transpose(1, 2) if tall else g
        x = (x / (x.flatten(1).norm(dim=1)[:, None, None] + 1e-7)).to(LOW).contiguous()
        for _ in range(3):
            a = x @ x.transpose(1, 2)
            x = torch.baddbmm(x, torch.baddbmm(a, a, a, beta=-4.7750, alpha=2.0315), x, beta=3.4445)
        x = x.float()
        return x.transpose(1, 2) if tall else x

    @torch.no_grad()
    def step(self, lr):
        """One update from the parameters' gradients."""
        for shape, members in self.groups.items():
            grad, moving = torch.stack([p.grad for p in members]), self.state[shape]
            moving.lerp_(grad, 1 - self.momentum)
            update = self.orthogonal(grad.lerp(moving, self.momentum))
            size = lr * max(1, shape[0] / shape[1]) ** 0.5
            for p, u in zip(members, update):
                p.mul_(1 - lr * self.decay).add_(u, alpha=-size * (LIMITED_SHARE if p in self.limits else 1))
        for p, most in self.limits.items():
            p.mul_((most / p.norm()).clamp(max=1.0))


class Learner:
    """A model with its optimisers, in a process of its own or in the main one; part: which process it is."""

    def __init__(self, sp, seed, part, start=None):
        self.sp, self.seed, self.part, self.pool, self.made = sp, seed, part, None, None
        torch.manual_seed(seed)
        self.net = Gemma2(CONFIG)
        if start:
            self.net.load_state_dict(start)
        named = list(self.net.named_parameters())
        self.params = [p for _, p in named]
        # Updates of one size at every step would let queries and keys grow until all scores stood at their cap, where nothing is
        # learned any more; Gemma 2 has no norm between the two to stop that.
        self.muon = Muon([p for n, p in named if p.ndim == 2 and "embed" not in n],
                         limited=[p for n, p in named if "q_proj" in n or "k_proj" in n])
        self.adam = torch.optim.AdamW([p for n, p in named if p.ndim == 1 or "embed" in n], betas=(0.9, 0.95), weight_decay=0.0)
        for p in self.params:
            p.grad = torch.zeros_like(p)
        self.adam.step()  # makes its moments, which stay zero

    def state(self):
        """All tensors that training changes."""
        moments = [self.adam.state[p][k] for p in self.adam.param_groups[0]["params"] for k in ("exp_avg", "exp_avg_sq", "step")]
        return [p.detach() for p in self.params] + list(self.muon.state.values()) + moments

    def put(self, shared):
        """Copy the state into one flat tensor."""
        torch.cat([t.flatten() for t in self.state()], out=shared)

    def take(self, shared):
        """Copy the state from one flat tensor."""
        tensors = self.state()
        for t, new in zip(tensors, shared.split([t.numel() for t in tensors])):
            t.copy_(new.view_as(t))

    def work(self, shared, pool, batch, factor):
        """A round from a shared state: {where in the data it ends, summed loss, learned and all tokens, CPU seconds}."""
        began = time.process_time()
        self.take(shared)
        loss, learned, tokens = 0.0, 0, 0
        for _ in range(ROUND):
            if self.pool != pool:
                self.pool, self.made = pool, batches(self.sp, self.seed, pool, self.part)
            made = self.made[batch]
            loss += self.step(made, factor)
            learned, tokens = learned + len(made[1]), tokens + made[0].numel()
            pool, batch = (pool, batch + 1) if batch + 1 < len(self.made) else (pool + 1, 0)
        return {"pool": pool, "batch": batch, "loss": loss, "learned": learned, "tokens": tokens, "cpu": time.process_time() - began}

    def step(self, made, factor):
        """One step of the optimisers; returns the summed loss."""
        loss = self.net(*made)
        loss.backward()
        grads = [p.grad for p in self.params]
        torch._foreach_div_(grads, float(len(made[1])))
        torch.nn.utils.clip_grad_norm_(self.params, 1.0)
        self.adam.param_groups[0]["lr"] = ADAM_RATE * factor
        self.adam.step()
        self.muon.step(MUON_RATE * factor)
        torch._foreach_zero_(grads)
        return loss.item()


class Run:
    """A training run and its state file."""

    def __init__(self, sp, state_file, seed, minutes, processes=2, log=print, start=None):
        """start: weights to begin with, of an earlier run, whose dialogues are not seen again."""
        keep_memory()
        torch.set_num_threads(1)
        self.file, self.minutes, self.log = state_file, minutes, log
        self.learner = Learner(sp, seed, 0, start)
        self.tokens, self.share = (LATER_TOKENS, LATER_SHARE) if start else (TOTAL_TOKENS, 1.0)
        self.at = {"places": [(LATER_POOL if start else 0, 0)] * processes, "step": 0, "tokens": 0, "seconds": 0.0, "cpu": 0.0}
        size = sum(t.numel() for t in self.learner.state())
        self.shared = [torch.zeros(size).share_memory_() for _ in range(processes)]
        self.learner.put(self.shared[0])
        if self.file.exists():
            saved = torch.load(self.file, weights_only=True)
            if len(saved["at"]["places"]) != processes:
                raise SystemExit(f"{self.file} is of a run with --threads {len(saved['at']['places'])}")
            self.shared[0].copy_(saved["state"])
            self.at = saved["at"]
            log(f"continuing at step {self.at['step']}, {self.at['seconds'] / 60:.1f} minutes in")
        context, self.pipes = multiprocessing.get_context("fork"), []
        for part in range(1, processes):
            ours, theirs = context.Pipe()
            context.Process(target=self._serve, args=(sp, seed, part, start, theirs, [*self.pipes, ours]), daemon=True).start()
            theirs.close()
            self.pipes.append(ours)

    def _serve(self, sp, seed, part, start, pipe, others):
        """Work on what the main process sends, until it is gone."""
        # Without closing its copies a helper would never see the main process's end of the pipe close.
        for other in others:
            other.close()
        torch.set_num_threads(1)
        learner = Learner(sp, seed, part, start)
        try:
            while True:
                result = learner.work(self.shared[0], *pipe.recv())
                pipe.send(result)
                pipe.recv()  # everyone has read the shared state
                learner.put(self.shared[part])
                pipe.send(None)
        except (EOFError, KeyboardInterrupt, BrokenPipeError):
            pass

    def round(self):
        """Some steps of every process and the average of what came out; returns the mean loss per learned token."""
        at, factor = self.at, self.factor()
        for pipe, place in zip(self.pipes, at["places"][1:]):
            pipe.send((*place, factor))
        results = [self.learner.work(self.shared[0], *at["places"][0], factor)] + [pipe.recv() for pipe in self.pipes]
        for pipe in self.pipes:
            pipe.send(None)
        self.learner.put(self.shared[0])
        for pipe in self.pipes:
            pipe.recv()
        for other in self.shared[1:]:
            self.shared[0].add_(other)
        self.shared[0].div_(len(self.shared))
        at["places"] = [(r["pool"], r["batch"]) for r in results]
        at["step"] += ROUND
        at["tokens"] += sum(r["tokens"] for r in results)
        at["cpu"] += sum(r["cpu"] for r in results)
        return sum(r["loss"] for r in results) / sum(r["learned"] for r in results)

    def save(self):
        """Write the state whole or not at all."""
        part = self.file.with_suffix(".part")
        torch.save({"state": self.shared[0], "at": self.at}, part)
        os.replace(part, self.file)

    def progress(self):
        """0 at the start, 1 at the end, by tokens or by the clock."""
        return max(self.at["tokens"] / self.tokens, self.at["seconds"] / (60 * self.minutes))

    def factor(self):
        """Learning rate factor: short warm-up, full to the middle, then half a cosine down to nothing."""
        warm = min(1.0, (self.at["step"] + ROUND) / 64)
        return self.share * warm * (0.5 + 0.5 * math.cos(math.pi * min(1.0, max(0.0, 2 * self.progress() - 1))))

    def train(self):
        """Train to the end of the schedule; the state file survives a kill at any time."""
        at, saved, shown, losses = self.at, time.time(), time.time(), []
        while self.progress() < 1:
            began = time.time()
            losses.append(self.round())
            at["seconds"] += time.time() - began
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
        self.learner.take(self.shared[0])
        return self.learner.net
