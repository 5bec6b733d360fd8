"""Running a program and reading what it cost; tables of medians and ratios."""
import json
import os
import signal
import statistics
import subprocess
import tempfile
import time


class OutOfMemory(Exception):
    """The system ended a process for its memory."""


def first_to_go():
    """Where memory runs out, the system ends this process and no other."""
    with open("/proc/self/oom_score_adj", "w", encoding="ascii") as f:
        f.write("1000")


def run(command, stdin=None, env=None):
    """Standard output, seconds, and peak resident bytes of one process; OutOfMemory where it took too much."""
    with tempfile.TemporaryFile() as out:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdin=subprocess.PIPE if stdin else subprocess.DEVNULL, stdout=out,
                                   stderr=subprocess.PIPE, env={**os.environ, **(env or {})},
                                   preexec_fn=first_to_go)
        if stdin:
            process.stdin.write(stdin.encode())
            process.stdin.close()
        message = process.stderr.read().decode(errors="replace")
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode == -signal.SIGKILL:
            raise OutOfMemory
        if process.returncode != 0:
            raise SystemExit(f"bench: error: {' '.join(command)} ended with {process.returncode}: {message.strip()[-2000:]}")
        out.seek(0)
        return out.read().decode(), seconds, usage.ru_maxrss * 1024


def records(text):
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def spread(values):
    """Median with the range, for a table."""
    return f"{statistics.median(values):.3g} ({min(values):.3g}–{max(values):.3g})"


def ratio(ours, theirs):
    """Median of the ratios of neighbouring runs: both saw the same machine."""
    return statistics.median(a / b for a, b in zip(ours, theirs))


def markdown(header, rows):
    lines = ["| " + " | ".join(header) + " |", "| " + " | ".join("---" for _ in header) + " |"]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)
