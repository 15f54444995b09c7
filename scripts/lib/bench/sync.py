"""What a synchronous call gains by going through the gateway."""
import subprocess


def run(stack, args):
    stack.simulate(latency={"kind": "fixed", "ms": 20})
    upstream = stack.upstream.removeprefix("http://")
    command = [args.load, "8", str(args.seconds or 15), f"direct={upstream}/chat/completions",
               f"gateway=127.0.0.1:{stack.port}/v1/chat/completions#{stack.key}"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    figures = {line.split()[0]: [int(n) for n in line.split()[1:]] for line in lines}
    (_, p50, p99), (_, direct50, direct99) = figures["gateway"], figures["direct"]
    yield "added_p50_ms", (p50 - direct50) / 1000, "ms"
    yield "added_p99_ms", (p99 - direct99) / 1000, "ms"
