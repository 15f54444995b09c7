"""Three replicas, a job of --requests, and every 3 seconds a kill -9 of one of them: what is lost, doubled, left."""
import random, time

from .lines import chat_line, write_lines
from .machine import until
from .replicas import Site

REPLICAS = 3
KILL_EVERY_S = 3.0
# Grants are held and lost too.
TEAM = '[teams.soak]\nslots = 150\n'

LEFT = """
select (select count(*) from flow) + (select count(*) from lease) + (select count(*) from retry) + (select count(*) from intent)
     + (select count(*) from worker where lease_until < clock_timestamp())
     + (select count(*) from limit_use u where used > 0 or not exists (select 1 from worker w where w.worker_id = u.worker_id))
     + (select count(*) from job where finished_at is null)"""
DOUBLED = """
select (select count(*) from (select request_id from ledger where is_final group by request_id having count(*) > 1) d)
     + abs((select coalesce(sum(succeeded + failed), 0) from job_tally) + (select coalesce(sum(succeeded + failed), 0) from job)
           - (select count(*) from result))"""


def run(stack, args):
    requests = args.requests or 200_000
    site = Site(stack, "soak", more=TEAM)
    file = write_lines(stack.work / "soak.jsonl", requests, chat_line, 256)
    stack.simulate(latency={"kind": "lognormal", "p50_ms": 20, "p99_ms": 200}, error_rate=0.005)
    replicas = [site.serve() for _ in range(REPLICAS)]
    job, _ = stack.submit(file, url=replicas[0].url, key=site.first_key("soak"))
    sql, began, kills = site.sql(), time.monotonic(), 0
    while not sql.rows("select 1 from job where finished_at is not null"):
        if time.monotonic() - began > 1800:
            raise SystemExit(f"it did not end: {sql.rows('select * from job')}")
        time.sleep(KILL_EVERY_S)
        n = random.randrange(REPLICAS)
        replicas[n].kill9()
        replicas[n] = site.serve()
        kills += 1
    took = time.monotonic() - began
    # A dead replica's lease has to end first; and what runs at the last kill.
    until("nothing to be left", lambda: sql.number(LEFT) == 0 or time.monotonic() - began > took + 45, 60, 0.5)
    called = {call["client_request_id"] for call in stack.journal()}
    booked = {row[0] for row in sql.rows("select attempt_id from ledger")}
    yield "lost", requests - sql.number("select count(*) from result"), "requests"
    yield "doubled", sql.number(DOUBLED), "requests"
    yield "left", sql.number(LEFT), "rows"
    yield "unbooked", len(called - booked), "calls"
    yield "kills", kills, "kills"
    yield "requests_per_s", requests / took, "requests/s"
    sql.close()
