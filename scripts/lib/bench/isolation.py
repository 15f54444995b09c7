"""What prod feels of a bulk job of --lines requests that takes every slot it may: 64 slots, a provider of 200 ms.

Bulk is paused and resumed in turns, so that both halves of each comparison see the same machine. Waits are those of the
caller: from sending a job of one request until the provider sees its call.
"""
import collections, http.client, json, threading, time

from .lines import chat_line, write_lines
from .machine import percentile, until

ROUNDS = 4
TURN_S = 10
EVERY_S = 1 / 20
RESERVE = 7
SETTLE_S = 1.5
CALLERS = 8

# A closed loop on the reserve: the team may not use more of prod than that, so that alone it has no more either.
MORE = f"""
[deployments.loop]
kind = "openai"
base_url = "{{upstream}}"
model = "loop"
[routes.loop]
deployments = ["loop"]
allow_unpriced = true
[teams.loop.lanes.prod]
slots = {RESERVE}
"""
SETUP = {"slots": 64, "more": MORE}


def run(stack, args):
    stack.simulate(latency={"kind": "fixed", "ms": 200})
    file = write_lines(stack.work / "bulk.jsonl", args.lines, chat_line, 256)
    bulk = f"jobs/{stack.submit(file, '?lane=bulk')[0]['id']}"
    rounds = args.rounds or ROUNDS
    yield from waits(stack, bulk, rounds)
    yield from closed_loop(stack, bulk, rounds)
    stack.post(f"{bulk}/cancel")
    until("bulk to end", lambda: stack.job(bulk.split("/")[1])["finished_at"], 60, 0.5)
    yield from beside_uploads(stack, file)


def turns(stack, bulk, rounds):
    """Gives whether bulk runs, for each turn, once that is so."""
    for _ in range(rounds):
        stack.post(f"{bulk}/pause")
        time.sleep(SETTLE_S)
        yield False
        stack.post(f"{bulk}/resume")
        job = bulk.split("/")[1]
        until("bulk to take its slots", lambda: stack.job(job)["in_flight"] >= 64 - RESERVE, 30)
        yield True


def waits(stack, bulk, rounds):
    sent = {False: {}, True: {}}
    for busy in turns(stack, bulk, rounds):
        began, threads = time.monotonic(), []
        for n in range(int(TURN_S / EVERY_S)):
            # An open loop: the next is sent when its time has come, whatever became of the last.
            time.sleep(max(0, began + n * EVERY_S - time.monotonic()))
            threads.append(threading.Thread(target=submit_one, args=(stack, sent[busy])))
            threads[-1].start()
        for thread in threads:
            thread.join()
        time.sleep(SETTLE_S)
    sql = stack.sql()
    # The first attempt of each, by the id under which the provider saw it.
    job_of = {attempt: job for attempt, job in sql.rows(
        "select l.attempt_id, l.request_id from ledger l where l.lane = 'prod' and l.attempt_no = 1")}
    sql.close()
    arrived = {}
    for call in stack.journal():
        if request := job_of.get(call["client_request_id"]):
            arrived[request.removeprefix("req_").rsplit("_", 1)[0]] = call["arrived_us"]
    waited = {busy: [(arrived[job.removeprefix("job_")] - at) / 1000 for job, at in jobs.items()] for busy, jobs in sent.items()}
    for share, name in ((0.5, "p50"), (0.99, "p99")):
        yield f"wait_alone_{name}_ms", percentile(waited[False], share), "ms"
        yield f"added_wait_{name}_ms", percentile(waited[True], share) - percentile(waited[False], share), "ms"


def submit_one(stack, sent):
    at = int(time.time() * 1e6)
    connection = http.client.HTTPConnection("127.0.0.1", stack.port, timeout=30)
    connection.request("POST", "/api/v1/jobs?lane=prod", chat_line(1, 256).encode(),
                       {"authorization": f"Bearer {stack.key}", "content-type": "application/jsonl"})
    sent[json.loads(connection.getresponse().read())["id"]] = at
    connection.close()


def closed_loop(stack, bulk, rounds):
    key = stack.new_key("loop", ["prod"])
    line = lambda n, size: chat_line(n, size).replace('"model":"bench"', '"model":"loop"')
    calls = rounds * 2 * (TURN_S + 10) * RESERVE * 5 * 2
    job, _ = stack.submit(write_lines(stack.work / "loop.jsonl", calls, line, 256), "?lane=prod", key=key)
    windows = []
    for busy in turns(stack, bulk, rounds):
        start = time.time()
        time.sleep(TURN_S)
        windows.append((busy, int(start * 1e6), int(time.time() * 1e6)))
    stack.post(f"jobs/{job['id']}/cancel")
    started = collections.Counter()
    for call in stack.journal():
        if call["model"] == "loop":
            started.update(busy for busy, start, end in windows if start <= call["arrived_us"] < end)
    yield "prod_alone_per_s", started[False] / rounds / TURN_S, "requests/s"
    yield "prod_throughput_ratio", started[True] / started[False], "ratio"


def beside_uploads(stack, file):
    """Synchronous calls, before and while all of the lines are uploaded, again and again."""
    calls, going = [], [True]
    callers = [threading.Thread(target=call_until, args=(stack, calls, going)) for _ in range(CALLERS)]
    for caller in callers:
        caller.start()
    uploads = []
    for _ in range(2):
        time.sleep(TURN_S)
        began = time.monotonic()
        job, _ = stack.submit(file, "?lane=bulk")
        uploads.append((began, time.monotonic()))
        stack.post(f"jobs/{job['id']}/cancel")
        until("bulk to end", lambda: stack.job(job["id"])["finished_at"], 60, 0.5)
    going[0] = False
    for caller in callers:
        caller.join()
    beside = [ms for at, ms in calls if any(start <= at < end for start, end in uploads)]
    alone = [ms for at, ms in calls if not any(start - 0.5 <= at < end + 2 for start, end in uploads)]
    yield "sync_alone_p99_ms", percentile(alone, 0.99), "ms"
    yield "sync_added_p99_ms", percentile(beside, 0.99) - percentile(alone, 0.99), "ms"


def call_until(stack, calls, going):
    connection = http.client.HTTPConnection("127.0.0.1", stack.port, timeout=60)
    headers = {"authorization": f"Bearer {stack.key}", "content-type": "application/json"}
    body = '{"model":"bench","messages":[{"role":"user","content":"question"}]}'
    while going[0]:
        began = time.monotonic()
        connection.request("POST", "/v1/chat/completions", body, headers)
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise SystemExit(f"a synchronous call was answered with {answer.status}")
        calls.append((began, (time.monotonic() - began) * 1000))
    connection.close()
