#!/usr/bin/env python3
"""Embeds a question through the gateway, synchronously, and prints the texts of a job whose vectors are nearest to it.

TOLLWAY_URL and TOLLWAY_API_KEY say where the gateway is."""

import argparse
import json
import os
import textwrap
import time
import urllib.request
from pathlib import Path

SHOWN = 3


def main():
    args = arguments()
    question, answer, took_ms = embed(args.model, args.question)
    texts = {line["custom_id"]: line["body"]["input"] for line in lines(args.requests)}
    scored = []
    for line in lines(args.results):
        for item in line["response"]["body"]["data"]:
            scored.append((dot(question, item["embedding"]), line["custom_id"]))
    scored.sort(reverse=True)
    print(f"asked      {args.question}")
    print(f"embedded   by {answer['x-tollway-deployment']} in {took_ms:.0f} ms for ${answer['x-tollway-cost-usd']}")
    for rank, (score, custom_id) in enumerate(scored[:SHOWN]):
        print(f"{'nearest' if rank == 0 else '':10} {score:.3f}  {custom_id}")
        print(textwrap.indent("\n".join(textwrap.wrap(texts[custom_id], 90)[:3]), " " * 18) + " …")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=Path, required=True, help="the job as it was submitted")
    parser.add_argument("--results", type=Path, required=True, help="its result lines")
    parser.add_argument("--model", required=True)
    parser.add_argument("question")
    return parser.parse_args()


def lines(path):
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def embed(model, text):
    """The vector, the answer's headers and the milliseconds it took."""
    request = urllib.request.Request(
        os.environ["TOLLWAY_URL"] + "/v1/embeddings",
        data=json.dumps({"model": model, "input": text, "input_type": "query"}).encode(),
        headers={
            "authorization": "Bearer " + os.environ["TOLLWAY_API_KEY"],
            "content-type": "application/json",
            "x-tollway-tags": "environment=demo,feature=search",
        },
    )
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    began = time.monotonic()
    with direct.open(request, timeout=60) as answer:
        body = json.load(answer)
        return body["data"][0]["embedding"], answer.headers, (time.monotonic() - began) * 1000


def dot(a, b):
    """The cosine: the model's vectors have length one."""
    return sum(x * y for x, y in zip(a, b, strict=True))


if __name__ == "__main__":
    main()
