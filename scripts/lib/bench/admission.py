"""CPU of what a synchronous call's money goes through, with 1,000 budgets defined: held of all that cover it, and settled."""
import os, pathlib, subprocess


def run(stack, args):
    root = pathlib.Path(__file__).resolve().parents[3]
    # With the packages of the gateway's build, so that no dependency is built again with fewer features.
    command = ["cargo", "build", "-q", "-p", "tollway", "-p", "simulator", "-p", "engine", "--example", "admission"]
    subprocess.run(command, cwd=root, check=True)
    example = pathlib.Path(os.environ["CARGO_TARGET_DIR"]) / "debug/examples/admission"
    done = subprocess.run([example], check=True, capture_output=True, text=True)
    for line in done.stdout.splitlines():
        metric, value = line.split()
        yield metric, float(value), "us"
