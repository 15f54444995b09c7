#!/usr/bin/env python3
"""Text files of a folder as a job: chunks of 60 words, one embedding request a line.

Prints the number of requests, of files they are from, and of words, with spaces between."""

import argparse
import gzip
import hashlib
import html
import json
import re
from collections import Counter
from pathlib import Path

CHUNK_WORDS = 60
# Shorter ends of files say too little to be found by.
FEWEST_WORDS = 20
FIRST_OF_EACH = 4
LARGEST_FILE = 2 << 20
PROSE = re.compile(r"(readme|news|faq|copying|copyright)|\.(txt|md|rst|html?)$", re.IGNORECASE)
MARKUP = re.compile(r"<(script|style)\b.*?</\1>|<!--.*?-->|<[^>]*>", re.IGNORECASE | re.DOTALL)


def main():
    args = arguments()
    files = mixed([path for path in sorted(args.docs.rglob("*")) if is_prose(path)], args.docs)
    lines, sources, words = {}, set(), 0
    for first, last in ((0, FIRST_OF_EACH), (FIRST_OF_EACH, None)):
        for path in files:
            if len(lines) >= args.most:
                break
            for number, chunk in list(enumerate(chunks(path), 1))[first:last]:
                # Many packages carry the same text; it is embedded once.
                digest = hashlib.sha256(chunk.encode()).digest()
                if digest in lines or len(lines) >= args.most:
                    continue
                lines[digest] = request(f"{path.relative_to(args.docs)}#{number}", chunk, args.model)
                sources.add(path)
                words += chunk.count(" ") + 1
    args.out.write_text("".join(line + "\n" for line in lines.values()), encoding="utf-8")
    print(len(lines), len(sources), words)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--docs", type=Path, required=True, help="the folder")
    parser.add_argument("--out", type=Path, required=True, help="the JSONL file to write")
    parser.add_argument("--model", required=True, help="the model that requests name")
    parser.add_argument("--most", type=int, required=True, help="at most so many requests")
    return parser.parse_args()


def is_prose(path):
    name = path.name.removesuffix(".gz")
    try:
        return bool(PROSE.search(name)) and path.is_file() and 200 < path.stat().st_size < LARGEST_FILE
    except OSError:
        return False


def mixed(files, root):
    """One file of each folder below `root`, then a second one of each, and so on, so that the beginning is about many
    things; licences at the end."""
    seen = Counter()

    def place(path):
        folder = path.relative_to(root).parts[0]
        is_licence = path.name.startswith(("copyright", "COPYING"))
        seen[folder, is_licence] += 1
        # By digest rather than by name: every part of the alphabet comes early, and the same in every run.
        return is_licence, seen[folder, is_licence], hashlib.sha256(folder.encode()).digest()

    return sorted(files, key=place)


def chunks(path):
    """The text of `path` by 60 words; tables, rulers and other chunks that are not mostly words are left out."""
    try:
        data = path.read_bytes()
        if path.suffix == ".gz":
            with gzip.open(path) as file:
                data = file.read(LARGEST_FILE)
    except (OSError, EOFError):
        return
    if b"\0" in data[:4096]:
        return
    text = data.decode("utf-8", errors="replace")
    if re.search(r"\.html?$", path.name.removesuffix(".gz"), re.IGNORECASE):
        text = html.unescape(MARKUP.sub(" ", text))
    words = [word for word in text.split() if len(word) <= 40]
    for start in range(0, len(words), CHUNK_WORDS):
        chunk = words[start:start + CHUNK_WORDS]
        if len(chunk) >= FEWEST_WORDS and sum(is_word(word) for word in chunk) >= 0.7 * len(chunk):
            yield " ".join(chunk)


def is_word(text):
    return sum(map(str.isalpha, text)) >= 0.6 * len(text)


def request(custom_id, text, model):
    body = {"model": model, "input": text, "input_type": "passage"}
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": "/v1/embeddings", "body": body}, ensure_ascii=False)


if __name__ == "__main__":
    main()
