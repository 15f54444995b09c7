//! Signals between calls that wait for a limit and the granter.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{Notify, watch};

#[derive(Debug)]
pub struct Signals {
    /// The granter has something to ask for, or to give back.
    pub demand: Notify,
    /// Raised whenever there may be something for waiting calls.
    turn: watch::Sender<u64>,
    /// The last exchange with the database failed.
    is_away: AtomicBool,
}

impl Default for Signals {
    fn default() -> Self {
        Self { demand: Notify::new(), turn: watch::Sender::new(0), is_away: AtomicBool::new(false) }
    }
}

impl Signals {
    /// To be taken before a try: what changes during it is not missed.
    pub fn turn(&self) -> watch::Receiver<u64> {
        self.turn.subscribe()
    }

    pub fn is_away(&self) -> bool {
        self.is_away.load(Ordering::Relaxed)
    }

    /// The database answered, or not.
    pub(super) fn answered(&self, has: bool) {
        self.is_away.store(!has, Ordering::Relaxed);
    }

    pub fn changed(&self) {
        self.turn.send_modify(|turn| *turn = turn.wrapping_add(1));
    }
}
