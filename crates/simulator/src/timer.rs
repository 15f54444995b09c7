//! Waits that are exact to about a tenth of a millisecond. The runtime's own timer rounds up to the next tick of its clock, so
//! that callers in a closed loop fall in step with the ticks, and whatever they measure comes out in whole milliseconds.

use std::{
    cmp::Ordering,
    collections::BinaryHeap,
    sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

/// Its thread begins with the first wait and ends with the process.
static TIMER: LazyLock<Arc<Timer>> = LazyLock::new(|| {
    let timer = Arc::new(Timer::default());
    let runs = Arc::clone(&timer);
    thread::spawn(move || runs.run());
    timer
});

/// What waits, for the one thread that wakes.
#[derive(Default)]
struct Timer {
    waiting: Mutex<BinaryHeap<Wait>>,
    earlier: Condvar,
}

struct Wait {
    end: Instant,
    wake: oneshot::Sender<()>,
}

/// Comes back after `wait`.
pub async fn sleep(wait: Duration) {
    let (wake, woken) = oneshot::channel();
    TIMER.add(Wait { end: Instant::now() + wait, wake });
    let _ = woken.await;
}

impl Timer {
    fn lock(&self) -> MutexGuard<'_, BinaryHeap<Wait>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, wait: Wait) {
        let mut waiting = self.lock();
        let is_next = waiting.peek().is_none_or(|next| wait.end < next.end);
        waiting.push(wait);
        if is_next {
            self.earlier.notify_one();
        }
    }

    fn run(&self) {
        let mut waiting = self.lock();
        loop {
            let now = Instant::now();
            let Some(next) = waiting.peek() else {
                waiting = self.earlier.wait(waiting).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = next.end.saturating_duration_since(now);
            if !left.is_zero() {
                waiting = self.earlier.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner).0;
            } else if let Some(due) = waiting.pop() {
                // A call that was dropped meanwhile no longer waits.
                let _ = due.wake.send(());
            }
        }
    }
}

impl Ord for Wait {
    /// The heap's greatest is the one that ends first.
    fn cmp(&self, other: &Self) -> Ordering {
        other.end.cmp(&self.end)
    }
}

impl PartialOrd for Wait {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Wait {
    fn eq(&self, other: &Self) -> bool {
        self.end == other.end
    }
}

impl Eq for Wait {}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waits_end_in_their_order_and_never_early() {
        let began = Instant::now();
        let wait = |ms: u64| async move {
            sleep(Duration::from_millis(ms)).await;
            (ms, began.elapsed())
        };
        let mut done = Vec::new();
        let mut tasks: tokio::task::JoinSet<_> = [300, 100, 200, 0].into_iter().map(wait).collect();
        while let Some(ended) = tasks.join_next().await {
            done.push(ended.unwrap());
        }
        assert_eq!(done.iter().map(|(ms, _)| *ms).collect::<Vec<_>>(), [0, 100, 200, 300]);
        assert!(done.iter().all(|(ms, took)| *took >= Duration::from_millis(*ms)), "{done:?}");
    }
}
