"""Figures into docs/benchmarks.md."""
import datetime, os, platform, subprocess


def record(root, figures, upstream):
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=root, capture_output=True, text=True).stdout.strip()
    cpu = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), platform.machine())
    with open(root / "docs/benchmarks.md", "a") as file:
        file.write(f"\n## {datetime.date.today()} · {commit} · {os.cpu_count()} cores, {cpu}\n\n")
        if upstream:
            file.write(f"Against {upstream} instead of the simulator.\n\n")
        file.write("| Benchmark | Metric | Value | Unit |\n|---|---|---|---|\n")
        for name, metric, value, unit in figures:
            file.write(f"| `{name}` | `{metric}` | {value:.3f} | {unit} |\n")
