"""Jobs put into the database by SQL, for depths that would take too long to upload. The rows are those an upload makes; of
work that will not be reached, only the cursor's flow exists, not the bodies: waiting work costs one flow row however deep."""

BODY = """'{{"model":"{model}","messages":[{{"role":"user","content":"question"}}]}}'"""


class Stock:
    def __init__(self, sql):
        self.sql, self.ids = sql, 0

    def new_id(self):
        """Of this millisecond, like those of the product; told apart by a counter."""
        self.ids += 1
        return int(self.sql.number(f"select ((extract(epoch from now()) * 1000)::bigint << 22) + {self.ids}"))

    def team(self, name):
        self.sql.rows(f"insert into team (name) values ('{name}') on conflict do nothing")
        return int(self.sql.number(f"select team_id from team where name = '{name}'"))

    def job(self, team, requests, bodies=None, lane="bulk", route="bench", model="bench"):
        """A job of one flow, ready to be claimed; gives job and flow."""
        team_id, job_id, flow_id = self.team(team), self.new_id(), self.new_id()
        self.sql.rows(f"""
            begin;
            insert into job (job_id, team_id, key_id, lane, state, accepted, flow_ids)
            values ({job_id}, {team_id}, 'stock', '{lane}', 'queued', {requests}, array[{flow_id}]);
            insert into item (flow_id, pos, line, est_in, custom_id, body)
            select {flow_id}, n, n + 1, 10, 'c' || n, {BODY.format(model=model)} from generate_series(0, {bodies or requests} - 1) n;
            insert into flow (flow_id, job_id, team_id, lane, route, endpoint, key_id, priority, tail_pos, max_in, max_attempts)
            values ({flow_id}, {job_id}, {team_id}, '{lane}', '{route}', 1, 'stock', 0, {requests}, 10, 5);
            {self.wake(lane, team_id)};
            commit""")
        return job_id, flow_id

    def jobs_of_one(self, team, jobs, bodies, lane="bulk", route="bench"):
        """Jobs of one request each; the bodies of those that are served first."""
        team_id, first = self.team(team), self.new_id()
        self.ids += 2 * jobs
        if self.ids >= 1 << 22:
            raise SystemExit("more ids than a millisecond has")
        self.sql.rows(f"""
            begin;
            insert into job (job_id, team_id, key_id, lane, state, accepted, flow_ids)
            select {first} + n, {team_id}, 'stock', '{lane}', 'queued', 1, array[{first} + n] from generate_series(0, {jobs} - 1) n;
            insert into item (flow_id, pos, line, est_in, custom_id, body)
            select {first} + n, 0, 1, 10, 'c', {BODY.format(model=route)} from generate_series(0, {bodies} - 1) n;
            insert into flow (flow_id, job_id, team_id, lane, route, endpoint, key_id, priority, tail_pos, max_in, max_attempts)
            select {first} + n, {first} + n, {team_id}, '{lane}', '{route}', 1, 'stock', 0, 1, 10, 5
            from generate_series(0, {jobs} - 1) n;
            {self.wake(lane, team_id)};
            commit""")

    def wake(self, lane, team_id):
        return f"""insert into share (lane, team_id, blocked_until) values ('{lane}', {team_id}, '-infinity')
                   on conflict (lane, team_id) do update set blocked_until = '-infinity'"""
