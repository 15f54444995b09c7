// pgboss.js URL ITEMS WORKERS BATCH: puts ITEMS no-op jobs into pg-boss, drains them, and prints the jobs per second from the start of
// the workers until the last job is completed with its own output stored. For throughput its docs advise several workers
// (localConcurrency), batches, and fetching without a pause while batches are full.
const { PgBoss } = require("pg-boss");
const { Pool } = require("pg");

const [url, items, workers, batch] = [process.argv[2], ...process.argv.slice(3).map(Number)];
const QUEUE = "nothing";

async function main() {
  const pool = new Pool({ connectionString: url });
  const boss = new PgBoss({ connectionString: url, max: workers + 2, supervise: false, schedule: false });
  boss.on("error", (error) => { console.error(error); process.exit(1); });
  await boss.start();
  await boss.createQueue(QUEUE);
  for (let first = 0; first < items; first += 5000) {
    await boss.insert(QUEUE, Array.from({ length: Math.min(5000, items - first) }, (_, n) => ({ data: { n: first + n } })));
  }
  await pool.query("vacuum analyze");

  const options = { batchSize: batch, localConcurrency: workers, burstWhenBatchFull: true, pollingIntervalSeconds: 0.5, perJobResults: true };
  const began = process.hrtime.bigint();
  await boss.work(QUEUE, options, async (jobs) => jobs.map((job) => ({ id: job.id, status: "completed", output: { n: job.data.n } })));
  // Stops at the first job that is not completed, so that asking costs little.
  const waiting = "select 1 from pgboss.job where name = $1 and state < 'completed' limit 1";
  while ((await pool.query(waiting, [QUEUE])).rowCount > 0) await new Promise((resolve) => setTimeout(resolve, 10));
  const seconds = Number(process.hrtime.bigint() - began) / 1e9;
  const { rows } = await pool.query("select count(*)::int as n from pgboss.job where name = $1 and state = 'completed' and output is not null", [QUEUE]);
  if (rows[0].n !== items) throw new Error(`${rows[0].n} of ${items} jobs were completed`);
  console.log((items / seconds).toFixed(1));
  await boss.stop({ graceful: false });
  await pool.end();
}

main().then(() => process.exit(0), (error) => { console.error(error); process.exit(1); });
