//! The lanes in force and what waits in them, as listings show them.

use store::{
    job::Scope,
    lane::{LaneRow, LaneView},
};

use crate::Engine;

#[derive(Debug)]
pub struct Shown {
    /// Lanes with flows.
    pub busy: Vec<LaneView>,
    /// Lanes that somebody declared; the others exist by default.
    pub declared: Vec<LaneRow>,
    /// Of all workers together.
    pub slots: i64,
}

/// What the caller can see.
pub async fn show(engine: &Engine, scope: Scope) -> store::Result<Shown> {
    let mut conn = engine.pools.api.acquire().await?;
    let slots = store::worker::slots(&mut conn).await?;
    let declared = store::lane::list(&mut conn).await?;
    let busy = store::lane::busy(&mut conn, scope).await?;
    Ok(Shown { busy, declared, slots })
}
