//! Takes grants from Postgres as they are asked for, and gives back what is not needed.

use std::{collections::HashMap, sync::Arc, time::Duration};

use store::limit::{LimitRow, Want};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{
    Limiter, Rule,
    rule::{Kind, State},
};
use crate::{Engine, claim::pause};

const TICK: Duration = Duration::from_millis(250);
/// Between two rounds that demand alone starts.
const SHORTEST: Duration = Duration::from_millis(5);
/// Slots that nobody used for this many ticks go back.
const SLOTS_EXPIRE: u32 = 2;
/// A rate's grant that nobody spent for this many ticks goes back, so that it cannot pile up beside a later minute's.
const RATE_EXPIRES: u32 = 4;
/// What one who was refused waits for is kept for so many ticks. Requests of jobs come again within this, however long they were refused:
/// were it given back before, they would find nothing each time, and wait for ever.
const KEPT: u32 = (pause::LONGEST.as_millis() / TICK.as_millis()) as u32 + 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Occasion {
    /// Time has passed.
    Tick,
    /// Somebody was refused.
    Demand,
}

/// Runs until cancelled. `granted` is called whenever somebody who was refused may try again.
pub async fn run(engine: Arc<Engine>, granted: impl Fn() + Send, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let occasion = tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {
                if let Err(error) = reload(&engine).await {
                    warn!(%error, "Limits could not be read; the known ones hold");
                    continue;
                }
                Occasion::Tick
            }
            () = engine.limits.demand.notified() => Occasion::Demand,
        };
        match round(&engine, occasion).await {
            Ok(true) => granted(),
            Ok(false) => {}
            Err(error) => warn!(%error, "No grants could be taken; what is limited waits"),
        }
        tokio::time::sleep(SHORTEST).await;
    }
}

/// Follows the rules in force, keeping the state of those that stay.
pub async fn reload(engine: &Engine) -> store::Result<()> {
    // Two of them would each make a rule of a new limit, and what was taken from one of these would be forgotten.
    let _one = engine.limits.reloading.lock().await;
    let mut conn = engine.pools.work.acquire().await?;
    let rows = store::limit::active(&mut conn).await?;
    drop(conn);
    let limits = &engine.limits;
    let known: HashMap<i64, Arc<Rule>> = limits.all().into_iter().map(|rule| (rule.id, rule)).collect();
    let mut next: HashMap<Arc<str>, Vec<Arc<Rule>>> = HashMap::new();
    for LimitRow { limit_id, scope, kind, cap, .. } in rows {
        let Some(kind) = Kind::from_word(&kind) else { continue };
        let rule = known.get(&limit_id).cloned().unwrap_or_else(|| Arc::new(Rule::new(limit_id, &scope, kind)));
        let mut state = rule.state();
        state.is_news |= known.contains_key(&limit_id) && state.cap != cap;
        state.cap = cap;
        drop(state);
        next.entry(scope.into()).or_default().push(rule);
    }
    *limits.by_scope.write().unwrap_or_else(std::sync::PoisonError::into_inner) = next;
    Ok(())
}

impl Limiter {
    /// The database no longer knows what this replica was granted. What calls still hold is told anew before anything is taken.
    pub(crate) fn start_afresh(&self) {
        for rule in self.all().iter().filter(|rule| rule.kind == Kind::Slots) {
            let mut state = rule.state();
            state.granted = state.granted.min(state.used);
            (state.recorded, state.is_news) = (state.used, true);
        }
    }

    fn all(&self) -> Vec<Arc<Rule>> {
        self.by_scope.read().unwrap_or_else(std::sync::PoisonError::into_inner).values().flatten().cloned().collect()
    }
}

/// One exchange with Postgres, if anything is wanted or to be given back. Tells whether anything was refused before it.
async fn round(engine: &Engine, occasion: Occasion) -> store::Result<bool> {
    let (mut slots, mut rates, mut unspent) = (Vec::new(), Vec::new(), (Vec::new(), Vec::new()));
    for rule in engine.limits.all() {
        let mut state = rule.state();
        state.idle_ticks = state.idle_ticks.saturating_add(u32::from(occasion == Occasion::Tick));
        match rule.kind {
            Kind::Slots => {
                let wanted = slots_wanted(&state);
                let is_released = state.recorded > state.granted.max(state.used);
                if state.unmet > 0 || wanted < state.granted || is_released || state.is_news && state.recorded > 0 {
                    // Nothing more is taken until the answer is there: it may be less than what is held.
                    state.granted = state.granted.min(state.used);
                    slots.push((Arc::clone(&rule), Want { limit_id: rule.id, used: state.used, wanted }));
                }
            }
            Kind::Rpm | Kind::Tpm => {
                let kept = rate_kept(&state);
                if state.granted > kept {
                    unspent.0.push(rule.id);
                    unspent.1.push(state.granted - kept);
                    state.granted = kept;
                }
                if state.unmet > 0 {
                    // A debt from an underestimated call is paid first.
                    let wanted = (state.unmet.max(state.spent) - state.granted).max(1);
                    rates.push((
                        Arc::clone(&rule),
                        Want { limit_id: rule.id, used: state.largest - state.granted.min(0), wanted },
                    ));
                }
                state.spent = 0;
            }
        }
        (state.unmet, state.largest, state.is_news) = (0, 0, false);
    }
    if slots.is_empty() && rates.is_empty() && unspent.0.is_empty() {
        return Ok(false);
    }
    let wants = |rules: &[(Arc<Rule>, Want)]| rules.iter().map(|(_, want)| *want).collect::<Vec<_>>();
    let mut conn = engine.pools.work.acquire().await?;
    if !unspent.0.is_empty() {
        // By itself: in one transaction with what is taken, two replicas could wait for each other's rows.
        store::limit::return_rate(&mut conn, &unspent.0, &unspent.1).await?;
    }
    let mut tx = store::begin(&mut conn).await?;
    let slot_grants = store::limit::grant_slots(&mut tx, engine.worker_id, &wants(&slots)).await?;
    let rate_grants =
        if rates.is_empty() { HashMap::new() } else { store::limit::grant_rate(&mut tx, &wants(&rates)).await? };
    tx.commit().await?;
    for (rule, want) in slots {
        let mut state = rule.state();
        state.granted = slot_grants.get(&want.limit_id).copied().unwrap_or(want.used);
        state.recorded = state.granted.max(want.used);
    }
    for (rule, want) in rates {
        rule.state().granted += rate_grants.get(&want.limit_id).copied().unwrap_or(0);
    }
    Ok(true)
}

/// Slots that can be used now, and some more.
fn slots_wanted(state: &State) -> i64 {
    // A quarter of headroom, so that a growing load does not ask for each slot.
    match state.used + state.unmet {
        0 if state.idle_ticks <= SLOTS_EXPIRE => 2,
        0 => i64::from(state.waited_for > 0 && state.idle_ticks <= KEPT),
        busy => busy + busy / 4 + 2,
    }
}

/// What is not given back of a rate's grant.
fn rate_kept(state: &State) -> i64 {
    match state.idle_ticks {
        ticks if ticks <= RATE_EXPIRES => state.granted,
        ticks if ticks <= KEPT => state.granted.min(state.waited_for),
        _ => state.granted.min(0),
    }
}

#[cfg(test)]
mod tests;
