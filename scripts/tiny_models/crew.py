"""Data-parallel training on a CPU: one process per core, parameters and gradients in shared memory.

Threads inside an operation wait for each other hundreds of times a step, which on a machine with other work to do costs
most of the speed; processes meet once a step.
"""
import ctypes
import multiprocessing
import time

import torch


def keep_memory():
    """Have glibc keep freed memory: faulting its pages in again costs a sixth of the training time or more."""
    try:
        libc = ctypes.CDLL(None)
        libc.mallopt(-4, 0)              # M_MMAP_MAX
        libc.mallopt(-1, 2**31 - 4096)   # M_TRIM_THRESHOLD
        libc.mallopt(-2, 256 << 20)      # M_TOP_PAD
    except (OSError, AttributeError):
        pass                             # another C library: slower, no worse


class Crew:
    """`gradients(job)` runs compute(member, job) in every process at once and adds the gradients up."""

    def __init__(self, modules, compute, size):
        """modules: trained together; compute(member, job) -> loss (a scalar tensor), called in member 0..size-1."""
        torch.set_num_threads(1)
        self.params = [p for m in modules for p in m.parameters() if p.requires_grad]
        for m in modules:
            m.share_memory()
        self.compute, self.size, self.cpu = compute, size, 0.0
        self.grads = [[torch.zeros_like(p).share_memory_() for p in self.params] for _ in range(size)]
        context, self.pipes = multiprocessing.get_context("fork"), []
        for member in range(1, size):
            ours, theirs = context.Pipe()
            context.Process(target=self._serve, args=(member, theirs, [*self.pipes, ours]), daemon=True).start()
            theirs.close()
            self.pipes.append(ours)
        self._adopt(0)

    def _adopt(self, member):
        for p, g in zip(self.params, self.grads[member]):
            p.grad = g

    def _work(self, member, job):
        began = time.process_time()
        loss = self.compute(member, job) / self.size
        loss.backward()
        return loss.item(), time.process_time() - began

    def _serve(self, member, pipe, others):
        # Without closing its copies a member would never see the first process's end of its pipe close.
        for other in others:
            other.close()
        torch.set_num_threads(1)
        self._adopt(member)
        try:
            while True:
                pipe.send(self._work(member, pipe.recv()))
        except (EOFError, KeyboardInterrupt, BrokenPipeError):
            pass

    def gradients(self, job):
        """Leave the mean gradient in the parameters; returns the mean loss. The caller sets it to zero with `clear`."""
        for pipe in self.pipes:
            pipe.send(job)
        loss, cpu = self._work(0, job)
        for pipe in self.pipes:
            more, seconds = pipe.recv()
            loss, cpu = loss + more, cpu + seconds
        for grads in self.grads[1:]:
            torch._foreach_add_(self.grads[0], grads)
        self.cpu += cpu
        return loss

    def clear(self):
        """Set all gradients to zero."""
        for grads in self.grads:
            torch._foreach_zero_(grads)

    def close(self):
        """Let the other processes end."""
        for pipe in self.pipes:
            pipe.close()
