#!/usr/bin/env python3
"""Reads what `cargo test` prints; shows a line for each group of tests, and the words of those that fail.

usage: summarise.py LOG COUNTS    LOG gets everything, COUNTS gets "PASSED FAILED" at the end."""

import re
import sys

GROUP = re.compile(r"^ +(?:Running (?:unittests )?(?P<path>\S+) \((?P<program>\S+)\)|Doc-tests (?P<docs>\S+))")
RESULT = re.compile(r"^test result: \S+ (\d+) passed; (\d+) failed; (\d+) ignored; .* finished in (\S+)")
SLOW = re.compile(r"^test .* has been running for over")


def main(log_path, counts_path):
    passed = failed = 0
    group = result = None
    in_failures = False

    def end_group():
        nonlocal passed, failed, result
        if group is None:
            return
        if result is None:
            failed += 1
            show(f"FAILED  {group}: it ended before its tests did")
            return
        ok, bad, ignored, took = int(result[1]), int(result[2]), int(result[3]), result[4]
        passed, failed = passed + ok, failed + bad
        if ok + bad + ignored:
            skipped = f", {ignored} ignored" if ignored else ""
            show(f"{'FAILED' if bad else 'ok':7} {group}: {ok} passed, {bad} failed{skipped}, {took}")
        result = None

    with open(log_path, "w", encoding="utf-8") as log:
        for line in sys.stdin:
            log.write(line)
            line = line.rstrip("\n")
            if found := GROUP.match(line):
                end_group()
                group, in_failures = name(found), False
            elif found := RESULT.match(line):
                # The last one counts: a test that runs its own program again prints another before it.
                result, in_failures = found, False
            elif line == "failures:":
                # The second of two such lines only repeats the names.
                in_failures = not in_failures
            elif in_failures or SLOW.match(line):
                show(line)
    end_group()
    with open(counts_path, "w", encoding="utf-8") as counts:
        print(passed, failed, file=counts)


def name(found):
    """`engine` for unit tests, `tests/stories` for others."""
    if found["docs"]:
        return f"{found['docs']}, examples in its documentation"
    program = re.sub(r"-[0-9a-f]{16}$", "", found["program"].rsplit("/", 1)[-1])
    return program if found["path"].startswith("src/") else f"tests/{program}"


def show(text):
    print(text, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
