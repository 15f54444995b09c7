//! Grants: the amount of a limit that one replica may use locally. One transaction of separate statements: lock the
//! limits in the order of their ids, read with a fresh snapshot what all replicas hold, write.

use std::{collections::HashMap, time::Duration};

use sqlx::{PgConnection, query, query_as};

use super::{
    allot::{self, Bucket, Need, OtherGrant},
    word::{CHANNEL, Word},
};
use crate::Result;

/// A replica's word that is younger is not asked for again.
const RECENT_S: f64 = 0.02;

/// What a replica says of one limit, and what it needs of it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Want {
    pub limit_id: i64,
    pub generation: i64,
    /// Slots in use now.
    pub used: i64,
    /// What is needed now. Slots: those in use, and those that requests wait for. Rates: what requests wait for.
    pub busy: i64,
    /// What it would like to hold beyond, for calls that are still to come.
    pub spare: i64,
    /// The part of its grant that it may use while the round runs.
    pub floor: i64,
    /// Rates: what it puts back; below zero, what calls used beyond what they had taken.
    pub returned: i64,
    /// Rates: the largest call that waits.
    pub largest: i64,
    /// Other replicas are asked for what they do not use, should it be missing here.
    pub asks: bool,
    /// And for their word, if it is not of this moment: a caller is to be told that the limit is full.
    pub needs_word: bool,
}

/// How a limit stands after a replica's round.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Answer {
    pub limit_id: i64,
    /// Slots: how many may be in use. Rates: what may be spent, beyond what the replica held.
    pub granted: i64,
    /// Granted to nobody.
    pub left: f64,
    /// Granted to other replicas, which did not use it when they gave their word.
    pub idle_elsewhere: i64,
    /// How old the oldest word is of the other replicas that hold something.
    pub oldest_word: Option<Duration>,
    /// So little is left, or others are so short, that nothing is to be held for calls that are still to come.
    pub is_tight: bool,
    /// Another replica is short of it.
    pub is_wanted: bool,
    /// The limit was set anew since this replica read it: it is granted nothing until it has read it again.
    pub is_outdated: bool,
}

struct Limit {
    limit_id: i64,
    generation: i64,
    is_slots: bool,
    cap: i64,
    level: f64,
    level_at: f64,
}

/// A row of `limit_use`.
struct Row {
    is_mine: bool,
    held: OtherGrant,
    age_s: f64,
}

struct Read {
    now: f64,
    replicas: i64,
    rows: HashMap<i64, Vec<Row>>,
}

/// What is to be written of one limit.
struct Written {
    limit_id: i64,
    granted: i64,
    used: i64,
    busy: i64,
    level: Option<f64>,
}

/// One replica's round: grants what fits, takes in what is given back, and tells other replicas what concerns them. Each limit once.
/// Inside a transaction.
pub async fn exchange(conn: &mut PgConnection, worker_id: i64, wants: &[Want]) -> Result<Vec<Answer>> {
    let ids: Vec<i64> = wants.iter().map(|want| want.limit_id).collect();
    let limits: HashMap<i64, Limit> =
        lock(conn, &ids).await?.into_iter().map(|limit| (limit.limit_id, limit)).collect();
    let read = read(conn, worker_id, &ids).await?;
    let (mut answers, mut written) = (Vec::with_capacity(wants.len()), Vec::with_capacity(wants.len()));
    let (mut asked, mut freed) = (Vec::new(), Vec::new());
    for want in wants {
        let Some(limit) = limits.get(&want.limit_id) else { continue };
        let rows = read.rows.get(&want.limit_id).map(Vec::as_slice).unwrap_or_default();
        let (answer, writes) = decide(limit, want, rows, &read);
        let mine = rows.iter().find(|row| row.is_mine);
        if want.asks && is_to_ask(&answer, &writes, want) {
            asked.push(want.limit_id);
        }
        let gives_back = mine.is_some_and(|row| row.held.granted > writes.granted) || want.returned > 0;
        if gives_back && answer.is_wanted {
            freed.push(want.limit_id);
        }
        answers.push(answer);
        written.push(writes);
    }
    write(conn, worker_id, &written, read.now).await?;
    for word in [Word::Asked { by: worker_id, limits: asked }, Word::Freed { by: worker_id, limits: freed }] {
        tell(conn, &word).await?;
    }
    Ok(answers)
}

fn is_to_ask(answer: &Answer, writes: &Written, want: &Want) -> bool {
    let is_short = writes.busy > writes.granted;
    let is_old = answer.oldest_word.is_some_and(|age| age.as_secs_f64() > RECENT_S);
    is_short && (answer.idle_elsewhere > 0 || answer.is_wanted || want.needs_word && is_old)
}

async fn lock(conn: &mut PgConnection, ids: &[i64]) -> Result<Vec<Limit>> {
    query_as!(
        Limit,
        r#"select limit_id, generation, kind = 'slots' as "is_slots!", level, extract(epoch from level_at)::float8 as "level_at!",
                  case when disabled_at is null then least(cap, 1000000000000000)::bigint else 1000000000000000 end as "cap!"
           from limit_rule where limit_id = any($1) order by limit_id for no key update"#,
        ids
    )
    .fetch_all(conn)
    .await
}

/// After [`lock`], with the snapshot of a statement of its own.
async fn read(conn: &mut PgConnection, worker_id: i64, ids: &[i64]) -> Result<Read> {
    let rows = query!(
        r#"with moment as materialized (
               select clock_timestamp() as now, (select count(*) from worker where lease_until > clock_timestamp()) as replicas
           )
           select extract(epoch from m.now)::float8 as "now!", m.replicas as "replicas!", u.limit_id as "limit_id?",
                  u.worker_id = $2 as is_mine, u.granted as "granted?", u.wanted as "wanted?",
                  extract(epoch from m.now)::float8 - extract(epoch from u.told_at)::float8 as age_s,
                  exists (select 1 from worker w where w.worker_id = u.worker_id and w.lease_until > m.now) as "is_alive!"
           from moment m left join limit_use u on u.limit_id = any($1)"#,
        ids,
        worker_id,
    )
    .fetch_all(conn)
    .await?;
    let (now, replicas) = rows.first().map_or((0.0, 1), |row| (row.now, row.replicas));
    let mut of_limits: HashMap<i64, Vec<Row>> = HashMap::new();
    for row in rows {
        let (Some(id), Some(is_mine)) = (row.limit_id, row.is_mine) else { continue };
        let (granted, busy) = (row.granted.unwrap_or(0), row.wanted.unwrap_or(0));
        let held = OtherGrant { granted, busy, is_alive: row.is_alive };
        let age_s = row.age_s.unwrap_or(f64::INFINITY).max(0.0);
        of_limits.entry(id).or_default().push(Row { is_mine, held, age_s });
    }
    Ok(Read { now, replicas, rows: of_limits })
}

fn decide(limit: &Limit, want: &Want, rows: &[Row], read: &Read) -> (Answer, Written) {
    let is_other = |row: &&Row| !row.is_mine;
    let others: Vec<OtherGrant> = rows.iter().filter(is_other).map(|row| row.held).collect();
    // Slots are held by calls under way, whatever the limit was when they began.
    let is_outdated = !limit.is_slots && limit.generation != want.generation;
    let want = match is_outdated {
        true => Want { busy: 0, spare: 0, floor: 0, returned: 0, largest: 0, ..*want },
        false => *want,
    };
    let need = Need { busy: want.busy, spare: want.spare, floor: want.floor };
    let mut level = None;
    let share = if limit.is_slots {
        allot::slots(limit.cap, &others, want.used.max(want.floor), need, read.replicas)
    } else {
        let mut bucket = Bucket::new(limit.cap, limit.level, read.now - limit.level_at);
        let share = bucket.take(&others, need, want.returned, want.largest, read.replicas);
        level = Some(bucket.level);
        share
    };
    // What it may be using while it asks counts as used.
    let granted =
        if limit.is_slots { share.granted.max(want.used).max(want.floor) } else { want.floor.max(0) + share.granted };
    let holders = rows.iter().filter(is_other).filter(|row| row.held.is_alive && row.held.granted > 0);
    let oldest = holders.map(|row| row.age_s).max_by(f64::total_cmp);
    let answer = Answer {
        limit_id: want.limit_id,
        granted: share.granted,
        left: share.left,
        idle_elsewhere: others.iter().fold(0, |sum, other| sum.saturating_add(other.idle())),
        // Of a version that gives no word, or longer ago than matters.
        oldest_word: oldest.map(|age| Duration::from_secs_f64(age.min(1e9))),
        is_tight: share.is_tight,
        is_wanted: others.iter().any(|other| other.is_alive && other.busy > other.granted),
        is_outdated,
    };
    (answer, Written { limit_id: want.limit_id, granted, used: want.used, busy: want.busy, level })
}

async fn write(conn: &mut PgConnection, worker_id: i64, written: &[Written], now: f64) -> Result<()> {
    let column = |get: fn(&Written) -> i64| written.iter().map(get).collect::<Vec<_>>();
    let rates = || written.iter().filter_map(|row| Some((row.limit_id, row.level?)));
    let (rate_ids, levels): (Vec<i64>, Vec<f64>) = rates().unzip();
    query!(
        "with levels as (
             update limit_rule r set level = l.level, level_at = to_timestamp($8::float8)
             from unnest($6::bigint[], $7::float8[]) as l(limit_id, level) where r.limit_id = l.limit_id
         )
         insert into limit_use (limit_id, worker_id, granted, used, wanted, told_at)
         select u.limit_id, $1, u.granted, u.used, u.wanted, clock_timestamp()
         from unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[]) as u(limit_id, granted, used, wanted)
         order by u.limit_id
         on conflict (limit_id, worker_id) do update
             set granted = excluded.granted, used = excluded.used, wanted = excluded.wanted, told_at = excluded.told_at",
        worker_id,
        &column(|row| row.limit_id),
        &column(|row| row.granted),
        &column(|row| row.used),
        &column(|row| row.busy),
        &rate_ids,
        &levels,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Tells other replicas; heard when the transaction is committed.
pub async fn tell(conn: &mut PgConnection, word: &Word) -> Result<()> {
    if !word.is_empty() {
        query!("select pg_notify($1, $2)", CHANNEL, word.to_string()).execute(conn).await?;
    }
    Ok(())
}
