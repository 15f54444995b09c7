"""A psql that stays connected: what a bench asks the database beside the gateway."""
import subprocess


class Sql:
    def __init__(self, url):
        command = ["psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-F", "\t", url]
        self.psql = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def rows(self, query):
        """Runs statements; gives the lines of their answers, each a list of texts."""
        self.psql.stdin.write(f"{query};\n\\echo :end of answer\n")
        self.psql.stdin.flush()
        rows = []
        for line in self.psql.stdout:
            if line == ":end of answer\n":
                return rows
            rows.append(line.rstrip("\n").split("\t"))
        raise SystemExit(f"the database did not take: {query}")

    def number(self, query):
        return float(self.rows(query)[0][0])

    def close(self):
        self.psql.stdin.close()
        self.psql.wait(60)
