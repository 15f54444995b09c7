"""What is measured: a private embedded database, the simulator, and one gateway, on free loopback ports."""
import datetime, json, os, pathlib, subprocess, sys, time
import urllib.request

from .machine import end, free_port, http, until, wait_for
from .sql import Sql

CATALOG = """
[deployments.bench]
kind = "openai"
base_url = "{upstream}"
model = "bench"
[routes.bench]
deployments = ["bench"]
[[prices]]
provider = "openai"
model = "bench"
input = "0.10"
output = "0.40"
"""


class Stack:
    """`more` is further configuration; {upstream} in it is where the simulator's deployments are."""

    def __init__(self, tollway, work, upstream=None, slots=256, more=""):
        self.tollway, self.work, self.processes = tollway, work, []
        self.env = dict(os.environ, TOLLWAY_DATA=str(work / "data"), TOLLWAY_PROFILE=str(work / "profile.toml"),
                        RUST_LOG=os.environ.get("RUST_LOG", "warn"))
        for name in ("TOLLWAY_URL", "TOLLWAY_API_KEY", "DATABASE_URL"):
            self.env.pop(name, None)
        self.upstream = upstream
        if upstream is None:
            port = free_port()
            self.simulator = f"http://127.0.0.1:{port}"
            process = self.start([tollway, "simulate", "--listen", f"127.0.0.1:{port}"], "simulator.log")
            wait_for("the simulator", f"{self.simulator}/sim/config", process)
            self.upstream = f"{self.simulator}/v1"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        config = work / "tollway.toml"
        config.write_text(f'[server]\nlisten = "127.0.0.1:{self.port}"\n[worker]\nslots = {slots}\n'
                          + CATALOG.format(upstream=self.upstream) + more.replace("{upstream}", self.upstream))
        self.gateway = self.start([tollway, "--config", str(config), "dev"], "gateway.log")
        wait_for("the gateway", f"{self.url}/readyz", self.gateway)
        profile = work / "profile.toml"
        until("the profile", profile.exists, 30, 0.1)
        self.key = next(line.split('"')[1] for line in profile.read_text().splitlines() if line.startswith("api_key"))

    def start(self, command, log):
        output = open(self.work / log, "ab")
        process = subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, env=self.env, cwd=self.work)
        self.processes.append(process)
        return process

    def simulate(self, **config):
        """Steers the simulator; another upstream is as it is."""
        if hasattr(self, "simulator"):
            http("POST", f"{self.simulator}/sim/reset", b"{}")
            http("PATCH", f"{self.simulator}/sim/config", json.dumps(config).encode())

    def journal(self):
        """Every call the simulator saw since it was last steered, in the order of arrival."""
        with urllib.request.urlopen(f"{self.simulator}/sim/journal", timeout=120) as lines:
            for line in lines:
                yield json.loads(line)

    def submit(self, file, query="", url=None, key=None):
        """Uploads with curl, which costs next to no CPU; gives the job and the seconds it took."""
        started = time.monotonic()
        answer = subprocess.run(
            ["curl", "-sS", "-X", "POST", "-T", str(file), f"{url or self.url}/api/v1/jobs{query}",
             "-H", f"authorization: Bearer {key or self.key}", "-H", "content-type: application/jsonl", "-H", "expect:"],
            check=True, capture_output=True)
        took = time.monotonic() - started
        job = json.loads(answer.stdout)
        if "id" not in job:
            sys.exit(f"the upload was refused: {answer.stdout.decode()}")
        return job, took

    def job(self, job_id):
        return http("GET", f"{self.url}/api/v1/jobs/{job_id}", key=self.key)

    def post(self, path, body=b""):
        return http("POST", f"{self.url}/api/v1/{path}", body, key=self.key)

    def new_key(self, team, lanes):
        """A key of a team that exists."""
        body = {"team": team, "name": "bench", "role": "submit", "lanes": lanes}
        return self.post("keys", json.dumps(body).encode())["key"]

    def drained(self, job_id, seconds=600):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            job = self.job(job_id)
            if job["finished_at"]:
                return job
            time.sleep(0.25)
        sys.exit(f"the job did not end: {json.dumps(job)}")

    def database_url(self, name="tollway"):
        """Of a database in the embedded server."""
        return (self.work / "data/database-url").read_text().strip().rsplit("/", 1)[0] + f"/{name}"

    def sql(self, name="tollway"):
        return Sql(self.database_url(name))

    def rss_peak_mb(self):
        status = pathlib.Path(f"/proc/{self.gateway.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024

    def stop(self):
        for process in reversed(self.processes):
            end(process)


def seconds_between(job):
    parse = datetime.datetime.fromisoformat
    return (parse(job["finished_at"]) - parse(job["started_at"])).total_seconds()
