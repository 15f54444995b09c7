// graphile.js URL ITEMS CONCURRENCY LOCAL [store]: puts ITEMS no-op jobs into graphile-worker, drains them, and prints the jobs per
// second from the start of the workers until the last job is gone. It deletes what is done and keeps no results; with `store` each
// task stores its own. Batched as https://worker.graphile.org/docs/performance advises for many short tasks.
const { run, runMigrations, Logger } = require("graphile-worker");
const { Pool } = require("pg");

const [url, items, concurrency, local] = [process.argv[2], ...process.argv.slice(3, 6).map(Number)];
const store = process.argv[6] === "store";
const quiet = new Logger(() => () => {});

async function main() {
  const pgPool = new Pool({ connectionString: url, max: 12 });
  pgPool.on("error", fail);
  pgPool.on("connect", (client) => client.on("error", fail));
  await runMigrations({ pgPool, logger: quiet });
  await fill(pgPool);
  let done = 0, allDone;
  const all = new Promise((resolve) => (allDone = resolve));
  const began = process.hrtime.bigint();
  const runner = await run({
    pgPool,
    logger: quiet,
    noHandleSignals: true,
    concurrency,
    preset: { worker: { localQueue: { size: local }, completeJobBatchDelay: 0, failJobBatchDelay: 0 } },
    taskList: {
      nothing: async ({ n }, { job, query }) => {
        if (store) await query({ name: "store", text: "insert into result values ($1, $2)", values: [job.id, `{"n":${n}}`] });
        if (++done === items) allDone();
      },
    },
  });
  await all;
  while ((await pgPool.query("select 1 from graphile_worker._private_jobs limit 1")).rowCount > 0) await pause(10);
  const seconds = Number(process.hrtime.bigint() - began) / 1e9;
  console.log((items / seconds).toFixed(1));
  await runner.stop();
  await pgPool.end();
}

async function fill(pool) {
  await pool.query("create table result (job_id bigint primary key, body text not null)");
  const add = "select graphile_worker.add_jobs(array(select json_populate_recordset(null::graphile_worker.job_spec, $1::json)))";
  for (let first = 0; first < items; first += 10000) {
    const count = Math.min(10000, items - first);
    const jobs = Array.from({ length: count }, (_, n) => ({ identifier: "nothing", payload: { n: first + n } }));
    await pool.query(add, [JSON.stringify(jobs)]);
  }
  await pool.query("vacuum analyze graphile_worker._private_jobs");
}

function fail(error) {
  console.error(error);
  process.exit(1);
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

main().then(() => process.exit(0), fail);
