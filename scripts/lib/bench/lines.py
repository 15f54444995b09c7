"""Request lines, and files of them."""


def chat_line(n, size):
    head = f'{{"custom_id":"r{n}","method":"POST","url":"/v1/chat/completions","body":{{"model":"bench","messages":[{{"role":"user","content":"'
    tail = '"}]}}\n'
    return head + "x" * max(1, size - len(head) - len(tail)) + tail


def embed_line(n, size):
    head = f'{{"custom_id":"r{n}","method":"POST","url":"/v1/embeddings","body":{{"model":"bench","input":"'
    tail = '"}}\n'
    return head + "x" * max(1, size - len(head) - len(tail)) + tail


def write_lines(path, n, line, size=1024):
    with open(path, "w", buffering=1 << 20) as file:
        for first in range(0, n, 1000):
            file.write("".join(line(i, size) for i in range(first, min(n, first + 1000))))
    return path
