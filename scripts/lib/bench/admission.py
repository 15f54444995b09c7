"""CPU of what a synchronous call's money goes through, with 1,000 budgets defined: held of all that cover it, and settled."""
import os, pathlib, subprocess


def run(stack, args):
    root = pathlib.Path(__file__).resolve().parents[3]
    command = ["cargo", "run", "-q", "-p", "engine", "--example", "admission"]
    done = subprocess.run(command, cwd=root, env=dict(os.environ), check=True, capture_output=True, text=True)
    for line in done.stdout.splitlines():
        metric, value = line.split()
        yield metric, float(value), "us"
