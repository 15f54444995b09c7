//! In which order a claim serves the flows of each share.

use std::ops::Range;

use store::claim::FlowRow;

/// Requests of the flow that could run now.
pub(super) fn waiting(flow: &FlowRow) -> i64 {
    flow.due_retries + i64::from(flow.tail_pos - flow.next_pos)
}

/// In which order the flows of each share are served: one after the other, but those of one job by turns, for a job of two models
/// waits for the slower, not for one after the other.
pub(super) struct Turns {
    /// The flow of each turn.
    pub flow_of: Vec<usize>,
    /// How many requests may start in it.
    pub supply: Vec<usize>,
    /// The turns of each share.
    pub of_shares: Vec<Range<usize>>,
}

pub(super) fn turns(flows: &[FlowRow], flows_of: &[Range<usize>], free: usize) -> Turns {
    let mut turns = Turns { flow_of: Vec::with_capacity(flows.len()), supply: Vec::new(), of_shares: Vec::new() };
    let supply = |n: usize| waiting(&flows[n]).clamp(0, free as i64) as usize;
    for of_share in flows_of {
        let first = turns.flow_of.len();
        let mut start = of_share.start;
        while start < of_share.end {
            let is_of_job = |n: &usize| flows[*n].job_id == flows[start].job_id;
            let end = (start..of_share.end).take_while(is_of_job).last().map_or(start + 1, |last| last + 1);
            turns.add(start..end, &supply, free);
            start = end;
        }
        turns.of_shares.push(first..turns.flow_of.len());
    }
    turns
}

impl Turns {
    /// The flows of one job. Which of them is first is left to chance: with one free slot at a time, it would be the same for ever.
    fn add(&mut self, flows: Range<usize>, supply: &impl Fn(usize) -> usize, free: usize) {
        if flows.len() == 1 {
            self.flow_of.push(flows.start);
            self.supply.push(supply(flows.start));
            return;
        }
        let chance = rand::random_range(0..flows.len());
        let mut left: Vec<(usize, usize)> = flows.map(|n| (n, supply(n))).collect();
        left.rotate_left(chance);
        let mut turns = 0;
        while turns < free && left.iter().any(|(_, left)| *left > 0) {
            for (n, left) in left.iter_mut().filter(|(_, left)| *left > 0) {
                self.flow_of.push(*n);
                self.supply.push(1);
                *left -= 1;
                turns += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(job_id: i64, flow_id: i64, waiting: i32) -> FlowRow {
        FlowRow {
            flow_id,
            job_id,
            team_id: 1,
            team: "t".into(),
            lane: "bulk".into(),
            route: "chat".into(),
            endpoint: 1,
            key_id: "k".into(),
            priority: 0,
            next_pos: 0,
            tail_pos: waiting,
            max_in: 1,
            max_out: None,
            max_attempts: 5,
            deadline_at: None,
            submitted_at: chrono::DateTime::UNIX_EPOCH,
            tags: serde_json::json!({}),
            max_cost: None,
            held_since: None,
            has_reason: false,
            due_retries: 0,
        }
    }

    fn served(flows: &[FlowRow], free: usize) -> Vec<usize> {
        let whole = 0..flows.len();
        let Turns { flow_of, supply, .. } = turns(flows, std::slice::from_ref(&whole), free);
        flow_of.into_iter().zip(supply).flat_map(|(flow, n)| std::iter::repeat_n(flow, n)).take(free).collect()
    }

    #[test]
    fn flows_of_one_job_run_side_by_side() {
        let of_job = |flows: &[FlowRow], free| {
            let mut counts = [0; 3];
            served(flows, free).into_iter().for_each(|flow| counts[flow] += 1);
            counts
        };
        assert_eq!(of_job(&[flow(1, 1, 100), flow(1, 2, 100)], 8), [4, 4, 0]);
        assert_eq!(of_job(&[flow(1, 1, 100), flow(1, 2, 2), flow(1, 3, 100)], 8), [3, 2, 3]);
        assert_eq!(of_job(&[flow(1, 1, 1), flow(1, 2, 100)], 8), [1, 7, 0]);
    }

    #[test]
    fn jobs_run_one_after_the_other() {
        assert_eq!(served(&[flow(1, 1, 3), flow(2, 2, 100)], 5), [0, 0, 0, 1, 1]);
    }

    /// One slot comes free at a time: neither model is left behind.
    #[test]
    fn each_flow_of_a_job_has_the_first_turn_at_times() {
        let first: std::collections::BTreeSet<usize> =
            (0..200).flat_map(|_| served(&[flow(1, 1, 100), flow(1, 2, 100)], 1)).collect();
        assert_eq!(first.len(), 2);
    }
}
