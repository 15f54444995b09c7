"""Pausing and cancelling a job of --lines requests while it runs."""
import time

from .lines import chat_line, write_lines
from .machine import median, until

JOBS = 3
PAUSES = 10
# Nothing may start this long after the answer.
QUIET_S = 1.0


def run(stack, args):
    # Short lines: how long they are does not matter to what is measured.
    file = write_lines(stack.work / "cancel.jsonl", args.lines, chat_line, 160)
    stack.simulate(latency={"kind": "fixed", "ms": 20})
    pauses, cancels, quiet = [], [], []
    for _ in range(JOBS):
        job, _ = stack.submit(file)
        path = f"jobs/{job['id']}"
        for _ in range(PAUSES):
            runs(stack, job)
            pauses.append(timed(stack, f"{path}/pause"))
            quiet.append(stopped(stack))
            stack.post(f"{path}/resume")
        runs(stack, job)
        cancels.append(timed(stack, f"{path}/cancel"))
        quiet.append(stopped(stack))
        if stack.drained(job["id"])["state"] != "cancelled":
            raise SystemExit("the job did not end as cancelled")
    file.unlink()
    late = 0
    calls = [call["arrived_us"] for call in stack.journal()]
    for start, end in quiet:
        late += sum(start <= at < end for at in calls)
    yield "answer_ms", max(pauses + cancels), "ms"
    yield "pause_median_ms", median(pauses), "ms"
    yield "cancel_median_ms", median(cancels), "ms"
    yield "calls_after_1s", late, "calls"


def runs(stack, job):
    until("calls to run", lambda: stack.job(job["id"])["in_flight"] > 0)


def timed(stack, path):
    began = time.perf_counter()
    stack.post(path)
    return (time.perf_counter() - began) * 1000


def stopped(stack):
    """Waits; gives the time, in the journal's microseconds, in which no call may have arrived."""
    start = time.time() + QUIET_S
    time.sleep(QUIET_S + 0.5)
    return int(start * 1e6), int(time.time() * 1e6)
