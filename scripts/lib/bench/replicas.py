"""Further gateways beside a stack's own: `tollway serve` processes on a database of theirs in the same server."""
import json, subprocess

from .machine import end, free_port, wait_for
from .stack import CATALOG

CONFIG = """
[server]
listen = "127.0.0.1:{port}"
shutdown_delay_s = 0
[database]
url = "file:{home}/database-url"
[worker]
slots = {slots}
lease_s = {lease_s}
[lake]
url = "{home}/lake"
[secrets]
pepper = "file:{data}/pepper"
"""


class Site:
    """A database of its own, with the catalog of its gateways. `more` as in Stack."""

    def __init__(self, stack, name, slots=64, lease_s=5, more=""):
        self.stack, self.name, self.started = stack, name, 0
        self.home = stack.work / name
        self.home.mkdir()
        self.slots, self.lease_s = slots, lease_s
        self.catalog = CATALOG.format(upstream=stack.upstream) + more
        admin = stack.sql()
        admin.rows(f"create database {name}")
        admin.close()
        (self.home / "database-url").write_text(stack.database_url(name))
        self.command("migrate")

    def config(self, port):
        path = self.home / f"{port}.toml"
        path.write_text(CONFIG.format(port=port, home=self.home, slots=self.slots, lease_s=self.lease_s,
                                      data=self.stack.work / "data") + self.catalog)
        return path

    def command(self, *args):
        done = subprocess.run([self.stack.tollway, "--config", str(self.config(0)), "--output", "json", *args],
                              capture_output=True, text=True, env=self.stack.env, cwd=self.home)
        if done.returncode:
            raise SystemExit(f"tollway {' '.join(args)}: {done.stderr}")
        return done.stdout

    def first_key(self, team):
        return json.loads(self.command("keys", "create", "--bootstrap", "--team", team, "--name", "bench"))["key"]

    def sql(self):
        return self.stack.sql(self.name)

    def drop(self):
        """The database; its gateways have ended."""
        admin = self.stack.sql()
        admin.rows(f"drop database {self.name} with (force)")
        admin.close()

    def serve(self, roles="api,worker,maintenance"):
        """Starts a gateway and waits until it is ready."""
        return Replica(self, roles)


class Replica:
    def __init__(self, site, roles):
        site.started += 1
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        config = site.config(self.port)
        self.start = lambda: site.stack.start([site.stack.tollway, "--config", str(config), "serve", "--role", roles],
                                              f"{site.name}/{site.started}.log")
        self.process = self.start()
        wait_for("a gateway", f"{self.url}/readyz", self.process)

    def end(self):
        end(self.process)

    def kill9(self):
        self.process.kill()
        self.process.wait()

    def kill9_and_restart(self):
        """On the same port; gives it the time that it takes."""
        self.kill9()
        self.process = self.start()
        wait_for("a gateway", f"{self.url}/readyz", self.process)
