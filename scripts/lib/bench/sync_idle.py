"""A synchronous call after a pause: 20 keys of 10 teams, each a call every 2 s for --seconds at one of two replicas, under limits and
budgets with room; then the same while another team is at its caps."""
import asyncio, json, random, time

from .machine import http, percentile
from .replicas import Site

REPLICAS = 2
TEAMS = 10
KEYS = 2
EVERY_S = 2.0
# Callers of the team at its caps, without a pause.
CROWD = 16
BODY = json.dumps({"model": "limited", "max_tokens": 200, "messages": [{"role": "user", "content": "word " * 40}]}).encode()

CATALOG = """
[deployments.limited]
kind = "openai"
base_url = "{upstream}"
model = "bench"
slots = 400
rpm = 60000
tpm = 60000000
[routes.limited]
deployments = ["limited"]
[teams.crowd]
slots = 4
rpm = 3000
[budgets.all]
limit_usd = "10000"
window = "day"
"""
TEAM = """
[teams.team-{n}]
slots = 20
rpm = 600
tpm = 1000000
[budgets.team-{n}]
limit_usd = "100"
window = "day"
[budgets.team-{n}.scope]
team = "team-{n}"
"""


class Caller:
    """One connection that stays open, as those of SDKs do."""

    def __init__(self, address, path, key):
        self.address, self.streams = address, None
        self.request = (f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {key}\r\n"
                        f"content-type: application/json\r\ncontent-length: {len(BODY)}\r\n\r\n").encode() + BODY

    async def call(self):
        """Its status, and the seconds that it took."""
        self.streams = self.streams or await asyncio.open_connection(*self.address)
        reader, writer = self.streams
        began = time.perf_counter()
        writer.write(self.request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(int(length.split(b":")[1]))
        return int(head.split(b" ", 2)[1]), time.perf_counter() - began


def run(stack, args):
    seconds = args.seconds or 120
    teams = "".join(TEAM.format(n=n) for n in range(TEAMS))
    site = Site(stack, "sync_idle", more=CATALOG.replace("{upstream}", stack.upstream) + teams)
    stack.simulate(latency={"kind": "fixed", "ms": 20}, answer_tokens=100)
    replicas = [site.serve() for _ in range(REPLICAS)]
    admin = site.first_key("bench")
    make = lambda team: http("POST", f"{replicas[0].url}/api/v1/keys", json.dumps(
        {"team": team, "name": "bench", "role": "submit", "rpm": 600}).encode(), key=admin)["key"]
    keys = [make(f"team-{n}") for n in range(TEAMS) for _ in range(KEYS)]
    crowd = make("crowd")
    # Other replicas hear of keys within a second.
    time.sleep(2)
    ports = [replica.port for replica in replicas]
    upstream = stack.upstream.removeprefix("http://").split("/", 1)
    host, port = upstream[0].split(":")
    direct = ((host, int(port)), f"/{upstream[1]}/chat/completions")
    for prefix, is_crowded in (("", False), ("beside_caps_", True)):
        seen = asyncio.run(phase(ports, direct, keys, crowd if is_crowded else None, seconds))
        for name, share in (("p50", 0.5), ("p99", 0.99)):
            added = percentile(seen["gateway"], share) - percentile(seen["direct"], share)
            yield f"{prefix}added_{name}_ms", added * 1000, "ms"
        yield f"{prefix}refused", seen["refused"], "calls"
        yield f"{prefix}calls", len(seen["gateway"]), "calls"
        if is_crowded:
            yield "crowd_refused", seen["crowd_refused"], "calls"


async def phase(ports, direct, keys, crowd, seconds):
    seen = {"gateway": [], "direct": [], "refused": 0, "crowd_refused": 0}
    until = time.monotonic() + seconds
    crowding = [asyncio.create_task(press(ports[n % len(ports)], crowd, until, seen)) for n in range(CROWD if crowd else 0)]
    await asyncio.gather(*(keep_calling(ports, direct, key, until, seen) for key in keys), *crowding)
    return seen


async def keep_calling(ports, direct, key, until, seen):
    callers = [Caller(("127.0.0.1", port), "/v1/chat/completions", key) for port in ports]
    beside = Caller(*direct, "none")
    await asyncio.sleep(random.uniform(0, EVERY_S))
    while time.monotonic() < until:
        began = time.monotonic()
        status, took = await random.choice(callers).call()
        seen["gateway"].append(took)
        seen["refused"] += status != 200
        # Between two calls, straight to the provider: what the machine itself adds is in both.
        await asyncio.sleep(EVERY_S / 2)
        seen["direct"].append((await beside.call())[1])
        await asyncio.sleep(max(0, began + EVERY_S - time.monotonic()))


async def press(port, key, until, seen):
    caller = Caller(("127.0.0.1", port), "/v1/chat/completions", key)
    while time.monotonic() < until:
        status, _ = await caller.call()
        if status != 200:
            seen["crowd_refused"] += 1
            await asyncio.sleep(0.25)
