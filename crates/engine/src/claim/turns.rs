//! Where the lanes stand on one replica: which of them is next by weight, and which has waited too long.

use std::{collections::HashMap, hash::Hash};

use super::account::{self, Account, per_weight};

/// One lane's turn. All times in µs, on one clock of the caller's.
#[derive(Debug, Clone, Default)]
pub struct Turn {
    pub account: Account,
    /// Slot-time it used for its weight; raised to where the others stand when it comes back after a rest.
    level: i64,
    /// See [`super::fill::LaneState::mark`].
    mark: i64,
    /// It had requests waiting, and was below its most, when it was last looked at.
    competing: bool,
    /// What it was when it was last looked at.
    strict: Option<bool>,
    waits_since: u64,
}

/// What a claim knows of a lane.
#[derive(Debug, Clone)]
pub struct Asking<L> {
    pub lane: L,
    pub strict: bool,
    pub weight: u32,
    /// It has requests that could run now.
    pub wants: bool,
    /// Slots that it has at most: with so many in use it does not compete.
    pub most: usize,
    /// A weighted lane that wanted for so long and was served nothing is overdue; `None`: it may wait for ever. In µs.
    pub patience: Option<u64>,
}

/// How the lane stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    pub in_use: usize,
    pub level: i64,
    pub overdue: bool,
    pub mark: i64,
}

/// A lane with its bill paid, before it is set beside the others.
struct Entry {
    level: i64,
    competes: bool,
    wants: bool,
    /// From the strict lanes to the weighted ones, or the other way, since it was last looked at.
    moved: bool,
}

/// How the lanes stand, in the order asked. `guess`: the length of a call of which nothing is known.
pub fn look<L: Hash + Eq + Clone>(
    turns: &mut HashMap<L, Turn>,
    asking: &[Asking<L>],
    now: u64,
    guess: u64,
) -> Vec<Standing> {
    let mut entries = Vec::with_capacity(asking.len());
    for one in asking {
        let turn = turns.entry(one.lane.clone()).or_default();
        let cost = turn.account.cost(guess);
        turn.level += per_weight(turn.account.bill(now, cost), one.weight);
        let moved = turn.strict.replace(one.strict).is_some_and(|before| before != one.strict);
        turn.competing &= !moved;
        let wants = one.wants && turn.account.running() < one.most;
        entries.push(Entry { level: turn.level, competes: turn.competing && wants, wants, moved });
    }
    let mut standings = Vec::with_capacity(asking.len());
    for (n, (one, entry)) in asking.iter().zip(&entries).enumerate() {
        // Strict lanes and weighted ones do not compete with each other, and the level of one that was just made one of the
        // others says nothing among them.
        let rivals = (0..asking.len()).filter(|m| *m != n && asking[*m].strict == one.strict && !entries[*m].moved);
        let floor = account::floor(rivals.map(|m| (entries[m].level, entries[m].competes)));
        let Some(turn) = turns.get_mut(&one.lane) else { continue };
        if entry.moved {
            turn.level = floor.unwrap_or(turn.level);
        }
        if entry.wants && !turn.competing {
            turn.level = turn.level.max(floor.unwrap_or(turn.level));
            turn.waits_since = now;
        }
        turn.competing = entry.wants;
        standings.push(Standing {
            in_use: turn.account.running(),
            level: turn.level,
            overdue: entry.wants
                && !one.strict
                && one.patience.is_some_and(|most| now.saturating_sub(turn.waits_since) >= most),
            mark: turn.mark,
        });
    }
    standings
}

/// The lane was served up to this mark.
pub fn served<L: Hash + Eq>(turns: &mut HashMap<L, Turn>, lane: &L, mark: i64, now: u64) {
    if let Some(turn) = turns.get_mut(lane) {
        turn.mark = mark;
        turn.waits_since = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Option<u64> = Some(10_000);

    fn ask(wants: [bool; 3]) -> Vec<Asking<&'static str>> {
        let lane =
            |lane, strict, weight, wants| Asking { lane, strict, weight, wants, most: 1_000, patience: PATIENCE };
        vec![lane("prod", true, 1, wants[0]), lane("standard", false, 4, wants[1]), lane("bulk", false, 1, wants[2])]
    }

    #[test]
    fn a_lane_comes_back_where_the_others_stand() {
        let mut turns = HashMap::new();
        look(&mut turns, &ask([true, true, false]), 0, 100);
        turns.get_mut("standard").unwrap().account.start(0);
        turns.get_mut("prod").unwrap().account.start(0);
        let standing = look(&mut turns, &ask([true, true, true]), 8_000, 100);
        assert_eq!(standing.iter().map(|s| s.level).collect::<Vec<_>>(), [8_000, 2_000, 2_000]);
        // It competes from here on: what it is ahead or behind stays as it is.
        turns.get_mut("bulk").unwrap().account.start(8_000);
        let standing = look(&mut turns, &ask([true, true, true]), 9_000, 100);
        assert_eq!((standing[1].level, standing[2].level), (2_250, 3_000));
    }

    #[test]
    fn a_lane_at_its_most_gains_no_credit() {
        let mut turns = HashMap::new();
        let asking = |most| {
            let mut asking = ask([false, true, true]);
            asking[2].most = most;
            asking
        };
        look(&mut turns, &asking(1), 0, 100);
        turns.get_mut("bulk").unwrap().account.start(0);
        (0..8).for_each(|_| turns.get_mut("standard").unwrap().account.start(0));
        let standing = look(&mut turns, &asking(1), 40_000, 100);
        assert_eq!((standing[1].level, standing[2].level, standing[2].overdue), (80_000, 40_000, false));
        let standing = look(&mut turns, &asking(2), 40_000, 100);
        assert_eq!((standing[1].level, standing[2].level), (80_000, 80_000));
    }

    #[test]
    fn a_lane_that_becomes_strict_or_weighted_stands_where_its_new_rivals_do() {
        let mut turns = HashMap::new();
        let mut asking = ask([true, true, false]);
        look(&mut turns, &asking, 0, 100);
        turns.get_mut("prod").unwrap().account.start(0);
        turns.get_mut("standard").unwrap().account.start(0);
        let mut levels = |asking: &[Asking<&'static str>]| -> Vec<i64> {
            look(&mut turns, asking, 80_000, 100).iter().map(|s| s.level).collect()
        };
        assert_eq!(levels(&asking), [80_000, 20_000, 0]);
        asking[1].strict = true;
        assert_eq!(levels(&asking), [80_000, 80_000, 0], "behind nobody, and not ahead of prod");
        asking[1].strict = false;
        asking[2].wants = true;
        assert_eq!(levels(&asking), [80_000, 0, 0]);
    }

    #[test]
    fn a_lane_that_is_not_served_is_overdue_in_time() {
        let mut turns = HashMap::new();
        let overdue = |turns: &mut HashMap<_, _>, wants, now| -> Vec<bool> {
            look(turns, &ask(wants), now, 100).iter().map(|s| s.overdue).collect()
        };
        assert_eq!(overdue(&mut turns, [true, false, true], 5_000), [false, false, false]);
        assert_eq!(overdue(&mut turns, [true, false, true], 15_000), [false, false, true]);
        served(&mut turns, &"bulk", 0, 15_000);
        assert_eq!(overdue(&mut turns, [true, false, true], 24_999), [false, false, false]);
        assert_eq!(overdue(&mut turns, [true, true, true], 25_000), [false, false, true]);
        // Who wants nothing does not wait.
        assert_eq!(overdue(&mut turns, [true, true, false], 50_000), [false, true, false]);
        assert_eq!(overdue(&mut turns, [true, true, true], 50_000), [false, true, false]);
    }
}
