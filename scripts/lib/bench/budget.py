"""A budget of one dollar, 500 callers at three replicas, --rounds times: what was charged beyond it, and how much of it was used.
`killed`: the same while every second a replica is killed."""
import asyncio, json, random, threading, time

from .machine import http, until
from .replicas import Site

REPLICAS = 3
CALLERS = 500
PICO = 10**12
# Of CATALOG, in pico-USD a token.
INPUT, OUTPUT = 100_000, 400_000
# At most twice what it costs: 100 of these tokens come.
BODY = json.dumps({"model": "bench", "max_tokens": 200, "messages": [{"role": "user", "content": "word " * 40}]}).encode()
# Refusals one after the other, a quarter of a second apart, that end a caller.
ENOUGH = 6
BUDGET = '[budgets.dollar]\nlimit_usd = "1.00"\nwindow = "total"\n'


def run(stack, args):
    rounds = [round_of(stack, f"budget_{n}", kills=False) for n in range(args.rounds or 3)]
    yield "overshoot_usd_max", overshoot(rounds), "USD"
    yield "used_ratio_min", min(one["charged"] for one in rounds) / PICO, "ratio"
    yield "seconds_min", min(one["seconds"] for one in rounds), "s"
    yield "rounds", len(rounds), "rounds"


def killed(stack, args):
    rounds = [round_of(stack, f"budget_killed_{n}", kills=True) for n in range(args.rounds or 3)]
    yield "overshoot_usd_max", overshoot(rounds), "USD"
    yield "accounted_ratio_min", min(one["accounted"] for one in rounds) / PICO, "ratio"
    yield "charged_ratio_min", min(one["charged"] for one in rounds) / PICO, "ratio"
    yield "rounds", len(rounds), "rounds"
    yield "kills", sum(one["kills"] for one in rounds), "kills"


def overshoot(rounds):
    return max(max(0, one["charged"] - PICO) for one in rounds) / PICO


def round_of(stack, name, kills):
    site = Site(stack, name, more=BUDGET)
    stack.simulate(latency={"kind": "uniform", "min_ms": 100, "max_ms": 900}, answer_tokens=100)
    replicas = [site.serve() for _ in range(REPLICAS)]
    key = site.first_key("bench")
    ports = [replica.port for replica in replicas]
    callers = threading.Thread(target=lambda: asyncio.run(call_all(ports, key)), daemon=True)
    began, deaths = time.monotonic(), 0
    callers.start()
    while callers.is_alive():
        callers.join(1.0)
        if kills and callers.is_alive():
            replicas[random.randrange(REPLICAS)].kill9_and_restart()
            deaths += 1
    seconds = time.monotonic() - began
    charged = sum(call["prompt_tokens"] * INPUT + call["completion_tokens"] * OUTPUT for call in stack.journal())
    accounted = until("the budget to come to rest", lambda: at_rest(site, replicas, key), 90, 0.5)
    for replica in replicas:
        replica.end()
    return {"charged": charged, "accounted": accounted, "seconds": seconds, "kills": deaths}


def at_rest(site, replicas, key):
    """What was spent or cannot be proven, in pico-dollars, once nothing is held and the dead are booked."""
    sql = site.sql()
    busy = sql.number("select (select count(*) from intent) + (select count(*) from worker where lease_until < now())")
    sql.close()
    budget = http("GET", f"{replicas[0].url}/api/v1/budgets/dollar", key=key)
    if busy or budget["reserved"] != "0.00":
        return None
    return pico(budget["spent"]) + pico(budget["unproven"])


def pico(usd):
    whole, _, places = usd.partition(".")
    return int(whole) * PICO + int(places.ljust(12, "0"))


async def call_all(ports, key):
    await asyncio.gather(*(call(ports[n % len(ports)], key) for n in range(CALLERS)))


async def call(port, key):
    """One caller, until it was refused often enough."""
    head = (f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {key}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(BODY)}\r\n\r\n").encode()
    refused, streams = 0, None
    while refused < ENOUGH:
        try:
            streams = streams or await asyncio.open_connection("127.0.0.1", port)
            reader, writer = streams
            writer.write(head + BODY)
            answer = await reader.readuntil(b"\r\n\r\n")
            length = next(line for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(int(length.split(b":")[1]))
        except (OSError, asyncio.IncompleteReadError, StopIteration):
            # A replica that was killed.
            streams = None
            await asyncio.sleep(0.1)
            continue
        status = answer.split(b" ", 2)[1]
        refused = refused + 1 if status == b"402" else 0
        if status != b"200":
            await asyncio.sleep(0.25)
