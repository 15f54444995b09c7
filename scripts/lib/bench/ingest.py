"""One upload of --lines request lines of 1 KB."""
from .lines import chat_line, write_lines


def run(stack, args):
    file = write_lines(stack.work / "ingest.jsonl", args.lines, chat_line)
    # So slow that what drains meanwhile costs nothing: the upload is what is measured.
    stack.simulate(latency={"kind": "fixed", "ms": 60000})
    job, took = stack.submit(file)
    rss = stack.rss_peak_mb()
    stack.post(f"jobs/{job['id']}/cancel")
    file.unlink()
    yield "lines_per_s", args.lines / took, "lines/s"
    yield "rss_mb", rss, "MB"
