"""A job of --requests bodies of 1 KB each way, from its first claim to its end."""
import sys

from .lines import chat_line, embed_line, write_lines
from .stack import seconds_between


def chat(stack, args):
    yield from drain(stack, args, chat_line, {"answer_bytes": 1024})


def embed(stack, args):
    yield from drain(stack, args, embed_line, {"embedding_dimensions": 1536})


def drain(stack, args, line, config):
    requests = args.requests or 60_000
    file = write_lines(stack.work / "drain.jsonl", requests, line)
    stack.simulate(latency={"kind": "fixed", "ms": 0}, **config)
    job, _ = stack.submit(file)
    job = stack.drained(job["id"])
    counts = job["counts"]
    if counts["succeeded"] != requests:
        sys.exit(f"not all requests succeeded: {counts}")
    yield "requests_per_s", requests / seconds_between(job), "requests/s"
