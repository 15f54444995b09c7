"""Six replicas come and go for --seconds while ten teams, each with a cap, want more than it: was a cap ever exceeded?"""
import random, threading, time

from .machine import http, median
from .replicas import Site
from .stock import Stock

REPLICAS = 6
TEAMS = 10
CAP = 8
# Of every other team's deployment; lanes without a reserve get what the reserves leave of it.
DEPLOYMENT_CAP = 5
LATENCY_MS = (20, 200)

LIVE = """
select t.name, count(*) from lease l join worker w using (worker_id) join flow f using (flow_id) join team t using (team_id)
where w.lease_until > statement_timestamp() group by t.name"""


def cap_of(team):
    return DEPLOYMENT_CAP if team % 2 else CAP


def catalog(stack):
    text = ""
    for n in range(TEAMS):
        more = f"slots = {DEPLOYMENT_CAP}\n" if n % 2 else ""
        text += (f'[teams.team-{n}]\nslots = {CAP}\n[routes.route-{n}]\ndeployments = ["of-{n}"]\n'
                 f'[deployments.of-{n}]\nkind = "openai"\nmodel = "bench"\nbase_url = "{stack.simulator}/d/of-{n}/v1"\n{more}')
    return text


class Watch(threading.Thread):
    """What the database says of calls under live leases, again and again."""

    def __init__(self, site):
        super().__init__(daemon=True)
        self.sql, self.over, self.looks = site.sql(), 0, 0
        self.going = True

    def run(self):
        while self.going:
            self.looks += 1
            for team, calls in self.sql.rows(LIVE):
                self.over += int(calls) > cap_of(int(team.split("-")[1]))
        self.sql.close()


def run(stack, args):
    seconds = args.seconds or 600
    site = Site(stack, "caps", slots=32, more=catalog(stack))
    stack.simulate()
    for n in range(TEAMS):
        low, high = LATENCY_MS
        http("PATCH", f"{stack.simulator}/sim/d/of-{n}/config",
             f'{{"latency": {{"kind": "uniform", "min_ms": {low}, "max_ms": {high}}}}}'.encode())
    replicas = [site.serve()]
    stock, sql = Stock(site.sql()), site.sql()
    # Each has more than it can get done: cap × seconds at the shortest calls would take a hundred times as long.
    for n in range(TEAMS):
        stock.job(f"team-{n}", seconds * CAP * 12, route=f"route-{n}", model=f"route-{n}")
    replicas += [site.serve() for _ in range(REPLICAS - 1)]
    watch = Watch(site)
    watch.start()
    deadline, changes = time.monotonic() + seconds, 0
    while time.monotonic() < deadline:
        time.sleep(random.uniform(0.5, 4))
        if len(replicas) == REPLICAS or len(replicas) > 2 and random.random() < 0.5:
            gone = replicas.pop(random.randrange(len(replicas)))
            # One in four leaves in order.
            gone.end() if random.random() < 0.25 else gone.kill9()
        else:
            replicas.append(site.serve())
        changes += 1
    watch.going = False
    watch.join()
    for replica in replicas:
        replica.kill9()
    seen, peaks = by_the_simulator(stack)
    yield "violations", watch.over + seen, "violations"
    yield "violations_by_leases", watch.over, "looks"
    yield "violations_by_simulator", seen, "calls"
    yield "looks", watch.looks, "looks"
    yield "changes", changes, "kills and joins"
    # Caps that are not used are easily kept.
    yield "use_of_caps", sum(peaks.values()) / sum(cap_of(n) for n in range(TEAMS)), "ratio"
    sql.close()


def by_the_simulator(stack):
    """Calls that arrived while the cap's number of others were open. A killed replica's are closed with its sockets."""
    events, over, peaks = [], 0, {}
    for call in stack.journal():
        name = call["deployment"]
        events.append((call["arrived_us"], 1, name))
        if call["ended_us"]:
            events.append((call["ended_us"], -1, name))
    open_calls = dict.fromkeys({name for _, _, name in events}, 0)
    usage = {name: [] for name in open_calls}
    # What ended in the same microsecond ended before.
    for _, step, name in sorted(events):
        open_calls[name] += step
        if step > 0 and name.startswith("of-"):
            usage[name].append(open_calls[name])
            over += open_calls[name] > cap_of(int(name.split("-")[1]))
    for name, values in usage.items():
        if values:
            peaks[name] = median(values)
    return over, peaks
