//! Follows the budgets in force, takes grants of them as they are asked for, and gives back what is not needed.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use domain::budget::{Guard, Policy, Window};
use store::budget::{Ask, Locked, Put, Taken};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{
    Budgets,
    account::{self, Account, Room},
    book::Book,
    refusal::{Refusal, Why},
    rule::{Rule, State, Unmet, View},
};
use crate::Engine;

const TICK: Duration = Duration::from_millis(250);
/// Between two rounds that demand alone starts.
const SHORTEST: Duration = Duration::from_millis(5);
/// What was granted for requests of jobs is theirs for so many ticks: flows that were refused for long are asked once a second.
const KEPT: u32 = 6;

/// Runs until cancelled. `granted` is called whenever a request of a job that was refused may try again.
pub async fn run(engine: Arc<Engine>, granted: impl Fn() + Send, stop: CancellationToken) {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let occasion = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            _ = tick.tick() => Occasion::Tick,
            () = engine.budgets.demand.notified() => Occasion::Demand,
        };
        let done = match occasion {
            Occasion::Tick => look(&engine).await,
            _ => round(&engine, occasion).await,
        };
        match done {
            Ok(true) => granted(),
            Ok(false) => {}
            Err(error) => warn!(%error, "Budgets could not be asked; what they limit waits"),
        }
        tokio::time::sleep(SHORTEST).await;
    }
}

/// What a tick does.
pub async fn look(engine: &Engine) -> store::Result<bool> {
    follow(engine).await?;
    if engine.budgets.uncounted.load(Ordering::Acquire) {
        count(engine).await?;
    }
    round(engine, Occasion::Tick).await
}

/// Follows the budgets in force. Those that are new count the calls under way, and Postgres is told so before it hears that they are
/// followed: only then is anything granted of them.
pub async fn follow(engine: &Engine) -> store::Result<()> {
    let budgets = &engine.budgets;
    let _alone = budgets.exchange.lock().await;
    loop {
        let mut conn = engine.pools.work.acquire().await?;
        let revision = store::budget::revision(&mut conn).await?;
        if revision != budgets.book().revision {
            let rows = store::budget::active(&mut conn).await?;
            budgets.uncounted.fetch_or(rows.iter().any(|row| !row.is_counted), Ordering::AcqRel);
            budgets.turn_to(revision, rows);
        }
        drop(conn);
        if budgets.followed.load(Ordering::Acquire) == revision {
            return Ok(());
        }
        exchange(engine, Occasion::News).await?;
        let mut tx = engine.pools.work.begin().await?;
        let is_newest = store::budget::follow(&mut tx, engine.worker_id, revision).await?;
        tx.commit().await?;
        if is_newest {
            budgets.followed.store(revision, Ordering::Release);
            return Ok(());
        }
    }
}

/// Postgres lost sight of this process and knows it again: it still follows what it followed.
pub async fn keep_following(engine: &Engine, conn: &mut store::PgConnection) -> store::Result<()> {
    match engine.budgets.followed() {
        Some(revision) => store::budget::still_follow(conn, engine.worker_id, revision).await,
        None => Ok(()),
    }
}

/// Counts what was spent before budgets came; whichever replica gets to it first.
pub(super) async fn count(engine: &Engine) -> store::Result<()> {
    loop {
        let mut tx = engine.pools.work.begin().await?;
        let Some(one) = store::budget::uncounted(&mut tx).await? else { break };
        store::budget::count(&mut tx, &one, engine.clock.now()).await?;
        tx.commit().await?;
    }
    let mut conn = engine.pools.work.acquire().await?;
    let is_left = store::budget::has_uncounted(&mut conn).await?;
    engine.budgets.uncounted.store(is_left, Ordering::Release);
    Ok(())
}

/// Gives back all that nothing holds; at the end of the process.
pub async fn give_back(engine: &Engine) -> store::Result<()> {
    round(engine, Occasion::End).await.map(drop)
}

impl Budgets {
    /// Replaces the book. From here on calls are under the new one, and those under way are adopted.
    pub fn turn_to(&self, revision: i64, rows: Vec<store::budget::BudgetRow>) {
        let mut book = self.book.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        let next = Book::new(revision, rows, &book);
        let known: Vec<i64> = book.rules.iter().map(|rule| rule.id).collect();
        let guards: HashMap<i64, Guard> =
            book.rules.iter().filter_map(|rule| Some((rule.id, rule.budget.guard?))).collect();
        let is_same = |a: &Guard, b: &Guard| (a.per, a.by) == (b.per, b.by);
        for call in self.calls.all().values() {
            let facts = call.facts();
            for rule in next.of(&facts) {
                if !known.contains(&rule.id) {
                    call.adopt(rule);
                }
                let is_new = |guard: &Guard| guards.get(&rule.id).is_none_or(|before| !is_same(before, guard));
                if rule.budget.guard.is_some_and(|guard| is_new(&guard))
                    && let Some(part) = self.parts.of(rule, &facts)
                {
                    call.adopt(&part);
                }
            }
        }
        *book = next;
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Occasion {
    /// Time has passed.
    Tick,
    /// Somebody waits.
    Demand,
    /// Budgets are new here.
    News,
    /// The process ends.
    End,
}

/// A cell that the round is about, as it stood when it was asked for.
struct Pending {
    rule: Arc<Rule>,
    ask: Ask,
    account: Account,
    needs: Vec<i128>,
    /// Of the needs, those of requests of jobs, together.
    for_jobs: i128,
    /// Of a part: whose they are.
    asking: BTreeMap<i64, i128>,
    recent: i128,
    epoch: u64,
    is_loaded: bool,
    is_current: bool,
}

/// One at a time: what Postgres has last is what this replica knows.
async fn round(engine: &Engine, occasion: Occasion) -> store::Result<bool> {
    let _alone = engine.budgets.exchange.lock().await;
    exchange(engine, occasion).await
}

/// Asks Postgres, if anything is wanted, to be told or to be given back. Tells whether requests of jobs wanted something.
async fn exchange(engine: &Engine, occasion: Occasion) -> store::Result<bool> {
    let now = engine.clock.now();
    let rules = rules(engine).await?;
    let mut pending = Vec::new();
    let mut for_jobs = false;
    for rule in &rules {
        let mut state = rule.state();
        for_jobs |= !state.unmet.is_empty();
        gather(&mut state, rule, now, occasion, &mut pending);
    }
    if pending.is_empty() {
        return Ok(false);
    }
    let ids = |is_part: bool| {
        let of_kind = pending.iter().filter(|one| one.rule.part.is_some() == is_part);
        let mut ids: Vec<i64> = of_kind.map(|one| one.ask.budget_id).collect();
        ids.dedup();
        ids
    };
    let asks: Vec<Ask> = pending.iter().map(|one| one.ask).collect();
    let mut tx = engine.pools.work.begin().await?;
    let mut locked = store::budget::lock(&mut tx, &ids(false)).await?;
    locked.extend(store::budget::lock_parts(&mut tx, &ids(true)).await?);
    let locked: HashMap<i64, Locked> = locked.into_iter().map(|one| (one.budget_id, one)).collect();
    let replicas = store::budget::replicas(&mut tx).await?;
    let taken = store::budget::taken(&mut tx, engine.worker_id, &asks).await?;
    let mut answers = Vec::with_capacity(pending.len());
    for (one, taken) in pending.into_iter().zip(taken) {
        // Removed meanwhile: its row is no longer looked at by anybody.
        let Some(locked) = locked.get(&one.ask.budget_id) else { continue };
        answers.push(answer(one, *locked, taken, replicas));
    }
    let puts: Vec<Put> = answers.iter().map(|(one, after, _)| put(&one.ask, after)).collect();
    store::budget::give(&mut tx, engine.worker_id, &puts).await?;
    tx.commit().await?;
    let mut is_tight = false;
    for (one, after, view) in &answers {
        let mut state = one.rule.state();
        state.take_in(one, after, *view);
        is_tight |= view.is_tight && one.is_current;
        drop(state);
        trip(engine, one, view, now);
    }
    engine.budgets.any_tight.store(is_tight, Ordering::Release);
    engine.budgets.turn.send_modify(|turn| *turn += 1);
    Ok(for_jobs)
}

/// All that is granted: the budgets in force, and the parts of them that are in use.
async fn rules(engine: &Engine) -> store::Result<Vec<Arc<Rule>>> {
    let budgets = &engine.budgets;
    let mut rules = budgets.book().rules.clone();
    budgets.parts.forget_idle();
    if budgets.parts.has_nameless() {
        budgets.parts.name(&mut *engine.pools.work.acquire().await?).await?;
    }
    rules.extend(budgets.parts.all());
    Ok(rules)
}

/// What one budget has to say. Grants that nothing holds are given up here, before Postgres hears of it.
fn gather(state: &mut State, rule: &Arc<Rule>, now: DateTime<Utc>, occasion: Occasion, pending: &mut Vec<Pending>) {
    // A part that came this moment.
    let Some(id) = rule.known_id() else { return };
    let waits = !state.waiting.is_empty() || !state.unmet.is_empty();
    if state.cells.is_empty() && !waits {
        return;
    }
    let passes = rule.policy == Policy::Alert;
    let is_tight = state.view.is_some_and(|view| view.is_tight);
    let is_idle = !waits && state.recent == 0 && state.before == 0;
    let mut needs: Vec<i128> = state.waiting.values().copied().collect();
    let mut for_jobs = 0;
    for Unmet { asked, requests } in std::mem::take(&mut state.unmet).into_values() {
        for_jobs += asked * requests as i128;
        needs.extend(std::iter::repeat_n(asked, requests));
    }
    let mut asking = std::mem::take(&mut state.asking);
    let (recent, was_refused) = (state.recent.max(state.before), state.was_refused);
    if occasion == Occasion::Tick {
        state.kept_ticks = state.kept_ticks.saturating_sub(1);
        if state.kept_ticks == 0 {
            state.kept = 0;
        }
        (state.before, state.recent, state.was_refused) = (state.recent, 0, false);
    }
    if waits {
        state.cell(rule, now);
    }
    let (kept, epoch) = (state.kept, state.epoch);
    for cell in &mut state.cells {
        let is_current = cell.span.contains(now);
        let account = &mut cell.account;
        if !is_current || passes || occasion == Occasion::End {
            account.keep(0);
        } else if is_tight || is_idle && occasion == Occasion::Tick {
            // Also when somebody waits here: what is too little for him may do for others.
            account.keep(kept);
        }
        let is_short = is_current && !passes && recent > 0 && account.free() * 2 < recent && !is_tight;
        let is_news = cell.written != Some(*account) && occasion != Occasion::Demand;
        let gives_back = cell.written.is_some_and(|written| account.granted < written.granted);
        let asks = is_current && (waits || was_refused && occasion == Occasion::Tick);
        // How tight it is, others decide too.
        let wonders = is_current && occasion == Occasion::Tick && account.free() > 0;
        if !(asks || is_short || is_news || gives_back || wonders) {
            continue;
        }
        let until = match rule.budget.window {
            // Others' clocks may be a little ahead.
            Window::Rolling(_) => cell.span.end + chrono::TimeDelta::days(1),
            _ => cell.span.start,
        };
        pending.push(Pending {
            rule: Arc::clone(rule),
            ask: Ask { budget_id: id, cell: cell.span.start, since: cell.span.since, until },
            account: *account,
            needs: if is_current && !passes { needs.clone() } else { Vec::new() },
            for_jobs: if is_current { for_jobs } else { 0 },
            asking: if is_current { std::mem::take(&mut asking) } else { BTreeMap::new() },
            recent: if is_current && !passes && occasion != Occasion::End { recent } else { 0 },
            epoch,
            is_loaded: cell.is_loaded,
            is_current,
        });
    }
    state.cells.retain(|cell| {
        let is_over = cell.span.end <= now && cell.account.reserved == 0;
        !(is_over && cell.written == Some(cell.account))
    });
}

/// Jobs whose next request does not fit into a part, however calls under way end. A job that waits is asked again now and then, and how
/// the part stands may be old by then: so it is seen here, when it is known.
fn trip(engine: &Engine, one: &Pending, view: &View, now: DateTime<Utc>) {
    let never_fits = |asked: &i128| view.is_open && *asked > view.possible;
    for (job, asked) in one.asking.iter().filter(|(_, asked)| never_fits(asked)) {
        let (rule, left) = (Arc::clone(&one.rule), view.left.max(0));
        let refusal =
            Refusal { rule, asked: *asked, left, at: now, resets_at: None, why: Why::Short, is_pressed: false };
        engine.budgets.tripped.push(*job, refusal);
    }
}

/// The account as it will be, and how the window stands.
fn answer(one: Pending, locked: Locked, taken: Taken, replicas: i64) -> (Pending, Account, View) {
    let mut account = one.account;
    if !one.is_loaded {
        // Of a time before this process began afresh: all of it counts as used.
        account.used += taken.mine;
        account.granted += taken.mine;
    }
    let room = Room {
        cap: locked.cap,
        others: taken.others,
        replicas: replicas.into(),
        is_open: locked.is_open && one.is_current,
    };
    let granted = account::grant(&account, &one.needs, one.recent, room);
    account.granted = granted.granted;
    let view = View {
        at: Instant::now(),
        is_open: locked.is_open,
        is_tight: granted.is_tight,
        left: granted.left,
        possible: locked.cap - taken.spent - taken.unproven,
    };
    (one, account, view)
}

fn put(ask: &Ask, after: &Account) -> Put {
    Put {
        budget_id: ask.budget_id,
        cell: ask.cell,
        granted: after.granted.max(after.used),
        reserved: after.reserved,
        free: after.free(),
    }
}

impl State {
    /// Postgres has written it. Meanwhile calls may have taken of what was free, and others may have ended.
    fn take_in(&mut self, one: &Pending, after: &Account, view: View) {
        if self.epoch != one.epoch {
            return;
        }
        if one.is_current {
            self.view = Some(view);
            self.kept = self.kept.max(one.for_jobs).min(after.free());
            if one.for_jobs > 0 {
                self.kept_ticks = KEPT;
            }
        }
        let Some(cell) = self.cells.iter_mut().find(|cell| cell.span.start == one.ask.cell) else { return };
        // What Postgres had of it before this process began afresh.
        cell.account.used += after.used - one.account.used;
        cell.account.granted = after.granted;
        cell.is_loaded = true;
        cell.written = Some(*after);
    }
}
