"""How evenly teams are served that all want more than there is, from the ledger: who used how much of the slots' time, window by
window. Every call takes the same time, so that only the scheduler can make a difference."""
import datetime, json, time

from .lines import chat_line, write_lines
from .machine import until

TEAMS = 50
FEWEST, MOST = 100, 100_000
LATENCY_MS = 50
# For how long each part is looked at, and the first seconds, in which the slots fill, that are left out.
JAIN_S, WEIGHTS_S, START_S = 45, 30, 2
WINDOW_US, STEP_US = 5_000_000, 500_000
WEIGHTS = {"three": 3, "one": 1, "other": 1}

SETUP = {"slots": 64, "more": "".join(f"[teams.{team}]\nweight = {weight}\n" for team, weight in
                                      [(f"team-{n}", 1) for n in range(TEAMS)] + list(WEIGHTS.items()))}


def run(stack, args):
    stack.simulate(latency={"kind": "fixed", "ms": LATENCY_MS})
    # From 100 to 100,000, each as many times the last as the next is its own.
    sizes = {f"team-{n}": round(FEWEST * (MOST / FEWEST) ** (n / (TEAMS - 1))) for n in range(TEAMS)}
    lowest = 1.0
    for used in windows(stack, sizes, JAIN_S):
        if len(used) > 1:
            lowest = min(lowest, sum(used.values()) ** 2 / (len(used) * sum(x * x for x in used.values())))
    yield "jain_min", lowest, "index"
    total, error = sum(WEIGHTS.values()), 0.0
    for used in windows(stack, {team: MOST for team in WEIGHTS}, WEIGHTS_S):
        error = max([error] + [abs(used[team] / sum(used.values()) - weight / total) * 100 for team, weight in WEIGHTS.items()])
    yield "weight_error", error, "points"


def windows(stack, sizes, seconds):
    """Runs a job of each team's size for so long; gives, for each window, the slot-time of the teams that were backlogged
    throughout it."""
    file = stack.work / "fairness.jsonl"
    jobs = {}
    # All begin at once, however long the uploads take.
    start = time.time() + 10 + sum(sizes.values()) / 25_000
    start_at = datetime.datetime.fromtimestamp(start, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    for team, size in sizes.items():
        write_lines(file, size, chat_line, 160)
        jobs[team] = stack.submit(file, f"?start_at={start_at}", key=stack.new_key(team, ["bulk"]))[0]["id"]
    file.unlink()
    if time.time() >= start:
        raise SystemExit("the uploads took longer than was thought")
    time.sleep(start + seconds - time.time())
    begin, end = int((start + START_S) * 1e6), int(time.time() * 1e6)
    waits = {team for team, job in jobs.items() if not stack.job(job)["finished_at"]}
    for job in jobs.values():
        # The small ones have ended by now.
        if not stack.job(job)["finished_at"]:
            stack.post(f"jobs/{job}/cancel")
    until("the jobs to end", lambda: all(stack.job(job)["finished_at"] for job in jobs.values()))
    calls = {team: [] for team in sizes}
    for team, first, last in stack.sql().rows(
            "select team, (extract(epoch from requested_at) * 1e6)::bigint, (extract(epoch from completed_at) * 1e6)::bigint "
            f"from ledger where requested_at >= to_timestamp({start - 5})"):
        calls[team].append((int(first), int(last)))
    # Until when a team had requests waiting: its last call's start, or the end.
    backlogged = {team: end if team in waits else max(first for first, _ in calls[team]) for team in sizes}
    for low in range(begin, end - WINDOW_US, STEP_US):
        high = low + WINDOW_US
        yield {team: sum(max(0, min(last, high) - max(first, low)) for first, last in calls[team])
               for team in sizes if backlogged[team] >= high}
