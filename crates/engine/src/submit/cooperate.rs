//! Reading uploads beside calls that somebody waits for. Checking lines is pure CPU work: without a pause, one upload that
//! is all there keeps a thread of the runtime, and a few uploads keep them all. So the work is cut into slices of a
//! millisecond, and at most half of the machine's cores work on uploads at the same moment.

use std::{
    sync::LazyLock,
    time::{Duration, Instant},
};

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    task::yield_now,
};

/// Work of one upload between two chances for other tasks.
const TIME_SLICE: Duration = Duration::from_millis(1);

/// One for each two cores of this machine, shared by all uploads of the process.
static TURNS: LazyLock<Semaphore> = LazyLock::new(|| {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Semaphore::new((cores / 2).max(1))
});

/// Work of one upload since other tasks could run last.
#[derive(Debug)]
pub struct Slice {
    began: Instant,
}

impl Slice {
    pub fn new() -> Self {
        Self { began: Instant::now() }
    }

    /// Lets other tasks run when it is over.
    pub async fn pause_if_over(&mut self) {
        if self.began.elapsed() >= TIME_SLICE {
            yield_now().await;
            self.began = Instant::now();
        }
    }
}

/// The turn of one upload: taken before it works on what was read, given back before it waits for anything.
#[derive(Debug)]
pub struct Turn {
    held: Option<SemaphorePermit<'static>>,
    slice: Slice,
}

impl Turn {
    pub fn new() -> Self {
        Self { held: None, slice: Slice::new() }
    }

    pub async fn take(&mut self) {
        self.slice.pause_if_over().await;
        // Never closed; without a turn the work would go on, unshared.
        self.held = TURNS.acquire().await.ok();
    }

    pub fn give_back(&mut self) {
        self.held = None;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    };

    use super::*;

    /// On one thread, an endless worker with turns leaves room for another task after each slice.
    #[tokio::test]
    async fn work_in_turns_lets_other_tasks_run() {
        let done = Arc::new(AtomicBool::new(false));
        let slices = Arc::new(AtomicU32::new(0));
        let working = tokio::spawn({
            let (done, slices) = (Arc::clone(&done), Arc::clone(&slices));
            async move {
                let mut turn = Turn::new();
                while !done.load(Ordering::Relaxed) {
                    turn.take().await;
                    let began = Instant::now();
                    while began.elapsed() < TIME_SLICE {
                        std::hint::spin_loop();
                    }
                    slices.fetch_add(1, Ordering::Relaxed);
                    turn.give_back();
                }
            }
        });
        for _ in 0..20 {
            yield_now().await;
        }
        let before = slices.load(Ordering::Relaxed);
        assert!(before < 200, "{before} slices went by while another task waited for 20 turns");
        done.store(true, Ordering::Relaxed);
        working.await.unwrap();
    }
}
