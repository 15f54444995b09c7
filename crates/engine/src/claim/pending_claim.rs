//! The resources of a claim before its commit. If it is dropped, they are returned and none of its requests is called.

use std::{sync::Arc, time::Instant};

use super::{Request, selection::Admitted};
use crate::Engine;

pub(super) struct Uncommitted<'e> {
    engine: &'e Engine,
    pub admitted: Vec<Admitted>,
    pub requests: Vec<Arc<Request>>,
}

impl<'e> Uncommitted<'e> {
    pub fn new(engine: &'e Engine, admitted: Vec<Admitted>) -> Self {
        Self { engine, admitted, requests: Vec::new() }
    }

    pub fn committed(mut self) -> Vec<Arc<Request>> {
        std::mem::take(&mut self.requests)
    }
}

impl Drop for Uncommitted<'_> {
    fn drop(&mut self) {
        self.admitted.drain(..).for_each(|one| one.give_back(self.engine));
        // Its COMMIT may have happened all the same: then the heartbeat finds leases that nobody here knows of, and hands them back.
        self.engine.live.remove(self.requests.iter().map(|request| &request.key));
        for request in self.requests.drain(..) {
            self.engine.control.health.abandoned(&request.first.deployment.name, &request.job.team, Instant::now());
            request.take_admission().release();
        }
    }
}
