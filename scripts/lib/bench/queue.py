"""The bare queue beside others, on the same PostgreSQL: items a second whose handler does nothing, all of them put in before.

Tollway is the example `queue` of the engine: leases, results and ledger as in the gateway, and a provider that answers in process,
built for release, as apalis-postgres is.
graphile-worker, pg-boss and apalis-postgres are tuned as their docs advise; each is given several settings and counts with its
best. What each leaves behind differs: pg-boss and apalis keep an output for each item; graphile-worker deletes what is done, so it is
measured as it is, and, for `ratio_to_graphile_results`, with a task that stores its result."""
import os, pathlib, shutil, statistics, subprocess

ROOT = pathlib.Path(__file__).resolve().parents[3]
HERE = pathlib.Path(__file__).resolve().parent / "queue"
CACHE = pathlib.Path.home() / ".cache/tollway/bench-queue"
PACKAGES = ["pg-boss@12", "graphile-worker@0.17", "pg", "node@22"]
ITEMS, TURNS = 100_000, 3

# How each is run: what comes after the database's URL and the number of items.
SETTINGS = {
    "tollway": [["4096"], ["8192"]],
    "graphile": [["24", "500"], ["100", "1000"]],
    "graphile_results": [["24", "500", "store"], ["100", "1000", "store"]],
    "pgboss": [["2", "1000"], ["4", "500"]],
    "apalis": [["1", "1000"], ["4", "500"]],
}


def run(stack, args):
    commands = prepare()
    items = args.requests or ITEMS
    figures = {name: [[] for _ in settings] for name, settings in SETTINGS.items()}
    # By turns, so that what else the machine does meets all alike.
    for _ in range(TURNS):
        for name, settings in SETTINGS.items():
            for n, setting in enumerate(settings):
                figures[name][n].append(measure(stack, commands[name], items, setting))
    best = {name: max(statistics.median(turns) for turns in settings) for name, settings in figures.items()}
    yield "items_per_s", best["tollway"], "items/s"
    for other in ["graphile", "pgboss", "apalis", "graphile_results"]:
        yield f"{other}_per_s", best[other], "items/s"
        yield f"ratio_to_{other}", best["tollway"] / best[other], "ratio"


def measure(stack, command, items, setting):
    """In a database of its own, in the stack's server."""
    sql = stack.sql("postgres")
    sql.rows("drop database if exists queue with (force)")
    sql.rows("create database queue")
    sql.close()
    env = dict(os.environ, NODE_PATH=str(CACHE / "node_modules"), RUST_LOG="error")
    command = [*command, stack.database_url("queue"), str(items), *setting]
    return float(subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout)


def prepare():
    """Builds Tollway's part, and, in a cache outside the checkout, what it is compared with."""
    if shutil.which("npm") is None:
        raise SystemExit("queue needs npm, for graphile-worker and pg-boss")
    CACHE.mkdir(parents=True, exist_ok=True)
    if not (CACHE / "node_modules/node").exists():
        subprocess.run(["npm", "init", "-y"], cwd=CACHE, check=True, capture_output=True)
        subprocess.run(["npm", "install", "--no-audit", "--no-fund", *PACKAGES], cwd=CACHE, check=True, capture_output=True)
    apalis = dict(os.environ, CARGO_TARGET_DIR=str(CACHE / "target"))
    subprocess.run(["cargo", "build", "-q", "--release", "--locked"], cwd=HERE / "apalis", env=apalis, check=True)
    target = os.environ.get("CARGO_TARGET_DIR") or str(pathlib.Path.home() / ".cache/tollway/target")
    subprocess.run(["cargo", "build", "-q", "--release", "--locked", "-p", "engine", "--example", "queue"], cwd=ROOT,
                   env=dict(os.environ, CARGO_TARGET_DIR=target), check=True)
    node = str(CACHE / "node_modules/.bin/node")
    return {
        "tollway": [f"{target}/release/examples/queue"],
        "graphile": [node, str(HERE / "graphile.js")],
        "graphile_results": [node, str(HERE / "graphile.js")],
        "pgboss": [node, str(HERE / "pgboss.js")],
        "apalis": [str(CACHE / "target/release/queue-apalis")],
    }
