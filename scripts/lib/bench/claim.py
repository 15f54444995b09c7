"""How many requests a gateway claims in a second of claiming, with the queue in states that could slow it.

Each situation has a database of its own, filled by SQL (see stock.py), and so has its base; they are dropped before the next one's are
filled, so that what a server does after ten million rows were written is not measured elsewhere. A turn starts a gateway there, lets
it claim a few thousand requests, and reads its own metrics: requests claimed by seconds spent in claims, but for its first. Turns of
situation and base alternate, so that a noisy machine harms both alike. The base is a job with 10,000 requests waiting; of a million
jobs of one request, which cost two rows each to claim, it is 10,000 such jobs.
"""
import time, urllib.request

from .machine import median, until
from .replicas import Site
from .stock import Stock

TURN = 8_000
# A process that has just begun has no plans and no grants yet: what is measured begins behind these.
FIRST = 1_000
BASE = 10_000
ROUNDS = 9
# A turn in which hardly anything can be claimed.
LONGEST_S = 6
# Bodies that a situation needs at most: turns, and what is claimed while one is being ended.
BODIES = (ROUNDS + 1) * 3 * TURN


def nothing(stock, args):
    pass


def one_job(stock):
    stock.job("work", BASE)


def jobs_of_one(stock):
    stock.jobs_of_one("work", BASE, BASE)


def waiting_10m(stock, args):
    """In two jobs: one has five million at most."""
    for _ in range(2):
        stock.job("deep", args.depth // 2, min(args.depth // 2, BODIES))


def jobs_1m(stock, args):
    stock.jobs_of_one("many", args.depth // 10, min(args.depth // 10, BODIES))


def finished_200k(stock, args):
    """What they leave: their records, and the dead rows of the flows they had."""
    jobs = args.depth // 50
    stock.jobs_of_one("done", jobs, 1)
    stock.sql.rows(f"""
        update job set state = 'completed', started_at = now(), finished_at = now(), purge_at = now() + interval '30 days';
        insert into job_tally (job_id, worker_id, succeeded, attempts) select job_id, 1, 1, 1 from job;
        update flow set next_pos = 1, blocked_until = 'infinity';
        delete from flow""")


def retries_1m(stock, args):
    """Of the very job that is claimed from, and of another."""
    retries = args.depth // 20
    for team in ("tries", "tries-again"):
        bodies = BODIES if team == "tries" else 1
        _, flow = stock.job(team, retries + BODIES, 1)
        stock.sql.rows(f"""
            insert into item (flow_id, pos, line, est_in, custom_id, body)
            select {flow}, {retries} + n, {retries} + n + 1, 10, 'c' || n, body
            from generate_series(0, {bodies} - 1) n, (select body from item where flow_id = {flow} limit 1) i;
            insert into retry (flow_id, pos, epoch, attempt_no, failures, due_at)
            select {flow}, n, 2, 1, 1, now() + interval '1 day' from generate_series(0, {retries} - 1) n;
            update flow set next_pos = {retries if team == "tries" else retries + BODIES} where flow_id = {flow}""")


def capped_1000(stock, args):
    """Teams that another replica, which lives for ever, holds at their cap; each has a job. The team with work has none."""
    stock.sql.rows("insert into worker (worker_id, host, roles, lease_until) values (1, 'other', '{worker}', now() + interval '1 day')")
    for n in range(1_000):
        stock.job(f"capped-{n}", 100, 1)
    stock.sql.rows("""
        insert into limit_rule (scope, kind, cap) select 'team:' || team_id, 'slots', 1 from team where name like 'capped-%';
        insert into limit_use (limit_id, worker_id, granted, used, wanted) select limit_id, 1, 1, 1, 1 from limit_rule""")


# Name, preparation, what brings each turn's work, its base.
BASES = {"one_job": (nothing, one_job), "jobs_of_one": (nothing, jobs_of_one)}
SITUATIONS = {
    "10m_waiting": (waiting_10m, None, "one_job"),
    "1m_jobs": (jobs_1m, None, "jobs_of_one"),
    "200k_finished": (finished_200k, one_job, "one_job"),
    "1m_retries": (retries_1m, None, "one_job"),
    "1000_capped": (capped_1000, one_job, "one_job"),
}


class Situation:
    def __init__(self, stack, name, prepare, bring_work, args):
        self.name, self.bring_work = name, bring_work
        # A lease that outlives a turn: nothing is returned between turns but by an orderly end.
        self.site = Site(stack, f"claim_{name}", slots=256, lease_s=60)
        self.sql = self.site.sql()
        self.stock = Stock(self.sql)
        prepare(self.stock, args)
        # The statistics and the flushed pages of a server that did not get all of this just now. Dead rows stay.
        self.sql.rows("analyze")
        self.sql.rows("checkpoint")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sql.close()
        self.site.drop()

    def turn(self):
        """Requests claimed in a second of claiming."""
        if self.bring_work:
            self.bring_work(self.stock)
        gateway = self.site.serve()
        until(f"claims with {self.name}", lambda: claims(gateway.url)[0] >= FIRST, 30, 0.01)
        began, deadline = claims(gateway.url), time.monotonic() + LONGEST_S
        while claims(gateway.url)[0] < TURN and time.monotonic() < deadline:
            time.sleep(0.02)
        requests, seconds = (now - then for now, then in zip(claims(gateway.url), began))
        gateway.end()
        if self.bring_work:
            # Else the next turn would begin with more.
            self.sql.rows("""
                delete from flow f using team t where t.team_id = f.team_id and t.name = 'work';
                update job j set state = 'completed', finished_at = now(), purge_at = now() + interval '30 days'
                from team t where t.team_id = j.team_id and t.name = 'work' and j.finished_at is null""")
        return requests / seconds


def claims(url):
    """Requests claimed so far by the gateway, and seconds that its claims took."""
    text = urllib.request.urlopen(f"{url}/metrics", timeout=30).read().decode()
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("tollway_claim"))
    seconds = float(values.get("tollway_claim_duration_seconds_sum", 0))
    return float(values.get("tollway_claimed_total", 0)), seconds


def run(stack, args):
    stack.simulate(latency={"kind": "fixed", "ms": 0}, answer_tokens=4)
    rates, ratios = {name: [] for name in BASES}, {}
    for name, (prepare, bring_work, base) in SITUATIONS.items():
        if args.only and name not in args.only:
            continue
        with Situation(stack, f"base_{name}", *BASES[base], args) as alike, Situation(stack, name, prepare, bring_work, args) as situation:
            pairs = [(alike.turn(), situation.turn()) for _ in range(args.rounds or ROUNDS)]
        rates[base] += [of_base for of_base, _ in pairs]
        ratios[name] = median([rate / of_base for of_base, rate in pairs])
    for name, values in rates.items():
        if values:
            yield f"{name}_per_s", median(values), "requests/s"
    for name, value in ratios.items():
        yield f"ratio_{name}", value, "ratio"
    if ratios:
        yield "ratio_worst", min(ratios.values()), "ratio"
    if not args.only or "xmin" in args.only:
        yield from xmin(stack, args)


def xmin(stack, args):
    """Claims a second before, in the last quarter of, and after a transaction that is open elsewhere for --seconds."""
    seconds = args.seconds or 60
    bodies = min(args.depth, 12_000 * (seconds + 60))
    situation = Situation(stack, "xmin", lambda stock, args: stock.job("long", args.depth, bodies), None, args)
    gateway, elsewhere = situation.site.serve(), situation.site.sql()
    until("claims", lambda: claims(gateway.url)[0] > 20_000, 60)
    before = rate(gateway.url, 10)
    elsewhere.rows("begin isolation level repeatable read; select txid_current(); select count(*) from lease")
    time.sleep(seconds * 0.75)
    during = rate(gateway.url, seconds * 0.25)
    elsewhere.rows("commit")
    time.sleep(10)
    after = rate(gateway.url, 10)
    gateway.end()
    yield "xmin_base_per_s", before, "requests/s"
    yield "xmin_ratio", during / before, "ratio"
    yield "xmin_recovered_ratio", after / before, "ratio"


def rate(url, seconds):
    """Requests claimed a second, by the clock: what a longer claim costs the whole."""
    (first, _), began = claims(url), time.monotonic()
    time.sleep(seconds)
    (last, _) = claims(url)
    return (last - first) / (time.monotonic() - began)
