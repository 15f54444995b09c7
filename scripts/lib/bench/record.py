"""Figures into docs/benchmarks/*.jsonl, one object a figure, and the newest of them into the table of docs/benchmarks.md."""
import datetime, json, os, platform, subprocess

# The table's rows: what it says, the figure (bench, metric), and the figures of others beside it, in the order of the page.
TABLE = [
    ("Bare queue, calls that do nothing", "queue", "items_per_s",
     [("graphile-worker", "queue", "graphile_per_s"), ("… storing results", "queue", "graphile_results_per_s"),
      ("pg-boss", "queue", "pgboss_per_s"), ("apalis-postgres", "queue", "apalis_per_s")]),
    ("Time added to a synchronous call, median", "sync", "added_p50_ms",
     [("a Rust proxy without a database", "rivals", "rust_proxy_without_database_added_ms"), ("Portkey", "rivals", "portkey_added_ms"),
      ("LiteLLM", "rivals", "litellm_added_ms")]),
    ("… 99th percentile", "sync", "added_p99_ms", []),
    ("A job of chat requests, end to end", "drain", "requests_per_s", []),
    ("… of embeddings, 1,536 floats", "drain_embed", "requests_per_s", []),
    ("Upload of a job, lines of 1 KB", "ingest", "lines_per_s", []),
    ("… highest memory of the gateway", "ingest", "rss_mb", []),
    ("Pausing a running job of 1,000,000 requests, median", "cancel", "pause_median_ms", []),
    ("Cancelling it, median", "cancel", "cancel_median_ms", []),
    ("Calls that start a second after the answer", "cancel", "calls_after_1s", []),
    ("Requests claimed, of one job", "claim", "one_job_per_s", []),
    ("… with 10,000,000 waiting, of that", "claim", "ratio_10m_waiting", []),
    ("… in the worst of five situations", "claim", "ratio_worst", []),
    ("Wait of `prod` beside a bulk job, added, 99th percentile", "isolation", "added_wait_p99_ms", []),
    ("Throughput of `prod` beside it, of that alone", "isolation", "prod_throughput_ratio", []),
    ("Fairness between 50 teams, Jain's index, worst 5 s", "fairness", "jain_min", []),
    ("Calls above a cap while replicas come and go", "caps", "violations", []),
    ("Requests lost under `kill -9` every 3 s", "soak", "lost", []),
    ("Results stored twice under `kill -9`", "soak", "doubled", []),
    ("Spent beyond a budget of one dollar, 500 callers", "budget", "overshoot_usd_max", []),
    ("… used of the budget, at least", "budget", "used_ratio_min", []),
    ("Spent beyond it under `kill -9` every second", "budget_killed", "overshoot_usd_max", []),
    ("CPU to reserve and settle a call, 1,000 budgets", "admission", "us_per_call", []),
]
BEGIN, END = "<!-- The newest figures; written by scripts/docs. -->\n", "<!-- End of the newest figures. -->\n"


def record(root, figures, method):
    """Appends figures, each (bench, metric, value, unit); `method` is the command that measured them."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=root, capture_output=True, text=True).stdout.strip()
    cpu = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), platform.machine())
    about = {"date": str(datetime.date.today()), **({"commit": commit} if commit else {}), "machine": f"{os.cpu_count()} cores, {cpu}"}
    for bench, metric, value, unit in figures:
        figure = {**about, "bench": bench, "metric": metric, "value": round(value, 3), "unit": unit, "method": method}
        with open(root / f"docs/benchmarks/{bench}.jsonl", "a") as file:
            file.write(json.dumps(figure, ensure_ascii=False) + "\n")
    text = page(root)
    (root / "docs/benchmarks.md").write_text(text)


def page(root):
    """docs/benchmarks.md with its table as the recorded figures have it."""
    before, _, rest = (root / "docs/benchmarks.md").read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + "\n" + "\n".join(table(newest(root))) + "\n\n" + END + after


def newest(root):
    """(bench, metric) → the last figure recorded."""
    found = {}
    for path in sorted((root / "docs/benchmarks").glob("*.jsonl")):
        for line in path.read_text().splitlines():
            figure = json.loads(line)
            found[figure["bench"], figure["metric"]] = figure
    return found


def table(figures):
    yield "| What | Tollway | Others | Benchmark | Date | Commit |"
    yield "|---|---|---|---|---|---|"
    for what, bench, metric, others in TABLE:
        if not (figure := figures.get((bench, metric))):
            continue
        beside = ", ".join(f"{name} {shown(figures[of, theirs])}" for name, of, theirs in others if (of, theirs) in figures)
        commit = figure.get("commit", "")
        yield f"| {what} | {shown(figure)} | {beside} | `{bench}` | {figure['date']} | {commit and f'`{commit}`'} |"


def shown(figure):
    value = figure["value"]
    number = f"{value:,.0f}" if value == int(value) or abs(value) >= 100 else f"{value:.3g}"
    # What is counted, and ratios, need no unit behind the number.
    unit = "" if figure["unit"] in ("ratio", "index", "calls", "requests", "violations") else f" {figure['unit']}"
    return number + unit.replace("us", "µs")
