//! How fast uploads are taken. Not run by default: `cargo test -p engine --lib submit::speed -- --ignored --nocapture`.

use std::time::Instant;

use store::PgPool;
use tokio::io::{AsyncRead, ReadBuf};

use super::{
    testing::{Gateway, catalog},
    *,
};

const LINE_BYTES: usize = 1_024;

/// `lines` request lines of 1 KB, made while they are read, so that they take no memory.
struct Lines {
    next: usize,
    lines: usize,
    line: Vec<u8>,
    given: usize,
}

impl Lines {
    fn new(lines: usize) -> Self {
        Self { next: 0, lines, line: Vec::new(), given: 0 }
    }

    fn make(&mut self) {
        let head = format!("{{\"custom_id\":\"doc-{:09}\",\"method\":\"POST\",\"url\":\"/v1/embeddings\",", self.next);
        let head = format!("{head}\"body\":{{\"model\":\"e5\",\"input\":\"");
        let words = "lorem ipsum dolor sit amet consectetur ".repeat(30);
        let tail = "\"}}\n";
        self.line = format!("{head}{}{tail}", &words[..LINE_BYTES - head.len() - tail.len()]).into_bytes();
    }
}

impl AsyncRead for Lines {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        while room.remaining() > 0 {
            if self.given == self.line.len() {
                if self.next == self.lines {
                    break;
                }
                if self.line.is_empty() {
                    self.make();
                } else {
                    let number = format!("{:09}", self.next);
                    self.line[18..27].copy_from_slice(number.as_bytes());
                }
                self.given = 0;
                self.next += 1;
            }
            let take = room.remaining().min(self.line.len() - self.given);
            room.put_slice(&self.line[self.given..self.given + take]);
            self.given += take;
        }
        std::task::Poll::Ready(Ok(()))
    }
}

fn report(what: &str, lines: usize, started: Instant) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
    println!("{what}: {:.0} lines/s, {peak}", lines as f64 / started.elapsed().as_secs_f64());
}

#[tokio::test]
#[ignore = "a measurement"]
async fn checking_alone() {
    let catalog = catalog();
    let count = 1_000_000;
    let mut body = Body::new(Source::open(Lines::new(count), u64::MAX).await.unwrap(), Format::Jsonl, LONGEST_LINE);
    let mut checker = Checker::new(&catalog, chrono::Utc::now(), i32::MAX);
    let started = Instant::now();
    let mut split = 0;
    while body.fill().await.unwrap() {
        while let Some(line) = body.pop().unwrap() {
            checker.check(line.text).unwrap();
            split += 1;
        }
    }
    assert_eq!(split, count);
    report("check", count, started);
}

#[sqlx::test(migrations = "../../migrations")]
#[ignore = "a measurement"]
async fn the_whole_way_into_the_table(pool: PgPool) {
    let count = 1_000_000;
    let gateway = Gateway::new(pool).await;
    let started = Instant::now();
    let accepted = gateway.submit(None, Lines::new(count)).await.unwrap();
    assert_eq!(accepted.accepted, count as i64);
    report("ingest", count, started);
}
