//! What a request holds while it runs. It ends in one of three ways, each said in words; dropping it is left to crashes.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use domain::{ErrorClass, LedgerRow, Money};

use scheduler::{CallGuard, SlotGuard};

use crate::{budgets::Reservation, catalog::ActiveDeployment, limits::Permit};

/// Where one call goes, and what was taken for it there: of the deployment's limits and of the budgets that it is under.
#[derive(Debug)]
pub struct Placement {
    pub deployment: Arc<ActiveDeployment>,
    permit: Permit,
    reservation: Reservation,
}

impl Placement {
    pub fn new(deployment: Arc<ActiveDeployment>, permit: Permit, reservation: Reservation) -> Self {
        Self { deployment, permit, reservation }
    }

    /// When the money was reserved.
    pub fn reserved_at(&self) -> Option<DateTime<Utc>> {
        self.reservation.at()
    }

    /// The most that the call can cost; `None` when the deployment has no price.
    pub fn reserved(&self) -> Option<Money> {
        self.reservation.worst_usd()
    }
}

/// What a request occupies of its replica, until it is dropped.
#[derive(Debug, Default)]
#[expect(dead_code, reason = "the guards are only ever dropped")]
enum Occupancy {
    #[default]
    None,
    /// A request of a job.
    Slot(SlotGuard),
    /// A synchronous call, counted in its lane.
    Lane(CallGuard),
}

/// All that a request holds: a slot or a place in its lane, what it took of its caller's limits, and, for the call under way, what
/// it took of the deployment's limits and reserved of budgets.
///
/// It ends by [`Self::settle`], [`Self::release`] or [`Self::forfeit`]. Dropped without one of them, as when the process is torn down,
/// slots come back, rates stay spent, and a reservation whose call was sent stays used, for nobody knows what it cost.
#[derive(Debug, Default)]
pub struct Admission {
    place: Occupancy,
    caller: Permit,
    deployment: Permit,
    reservation: Reservation,
}

impl Admission {
    /// Of a synchronous call, which has no deployment yet.
    pub fn in_lane(guard: CallGuard, caller: Permit) -> Self {
        Self { place: Occupancy::Lane(guard), caller, ..Self::default() }
    }

    /// Of a request that a claim found a deployment for.
    pub fn placed(caller: Permit, placement: Placement) -> Self {
        let Placement { permit, reservation, .. } = placement;
        Self { place: Occupancy::None, caller, deployment: permit, reservation }
    }

    /// The request occupies this slot from here on.
    pub fn occupy(&mut self, slot: SlotGuard) {
        self.place = Occupancy::Slot(slot);
    }

    /// The next call's.
    pub fn place(&mut self, placement: Placement) {
        (self.deployment, self.reservation) = (placement.permit, placement.reservation);
    }

    pub fn reserved_at(&self) -> Option<DateTime<Utc>> {
        self.reservation.at()
    }

    pub fn reserved(&self) -> Option<Money> {
        self.reservation.worst_usd()
    }

    /// The request turned out to be smaller than what it was admitted for.
    pub fn lower(&mut self, est_in: i64, max_out: Option<i64>) {
        self.reservation.lower(est_in, max_out);
    }

    /// From here on the call may cost something.
    pub fn mark_sent(&self) {
        self.reservation.mark_sent();
    }

    /// The call failed: the deployment's slot is free, its rates keep what it may have worked on.
    pub fn call_failed(&mut self, class: ErrorClass, used: Option<i64>) {
        self.deployment.failed(class, used);
        self.deployment = Permit::default();
    }

    /// What the call that ended still holds, as an admission of its own: it is settled with the call's row, while the request goes
    /// on.
    pub fn split_call(&mut self) -> Self {
        Self {
            deployment: std::mem::take(&mut self.deployment),
            reservation: std::mem::take(&mut self.reservation),
            ..Self::default()
        }
    }

    /// The request's answer used so many tokens.
    pub fn answered(&mut self, tokens: i64) {
        self.caller.settle_tokens(tokens);
        self.deployment.settle_tokens(tokens);
    }

    /// A stream broke off, having used so many tokens, of which the provider reported these.
    pub fn broke_off(&mut self, class: ErrorClass, tokens: i64, reported: Option<i64>) {
        self.call_failed(class, reported);
        self.caller.settle_tokens(tokens);
    }

    /// The next call is not made, and what was taken for it is as before.
    pub fn release_call(&mut self) {
        self.split_call().release();
    }

    /// No deployment took any of its calls: its caller's rates are as before.
    pub fn refund(&mut self) {
        self.caller.refund();
    }

    /// Nobody waits for the request any more; what it occupies of its replica and of its caller's limits is for others, while the
    /// call under way is brought to its end.
    pub fn leave_place(&mut self) {
        self.place = Occupancy::None;
        self.caller = Permit::default();
    }

    /// The call has ended: all but the money comes back before its row is committed.
    pub fn leave_limits(&mut self) {
        self.leave_place();
        self.deployment = Permit::default();
    }

    /// Its row is committed: the reservation becomes what the call did cost, all else comes back.
    pub fn settle(self, row: &LedgerRow) {
        self.reservation.settle(row);
    }

    /// Nothing was sent, so nothing can be charged: everything is as before.
    pub fn release(self) {
        self.caller.cancel();
        self.deployment.cancel();
        self.reservation.release();
    }

    /// Nobody here will learn how the call ended: somebody else books it at its worst case, so the money stays used, and rates
    /// stay spent.
    pub fn forfeit(self) {
        self.reservation.forfeit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Kind;

    #[test]
    fn a_call_that_never_reached_its_deployment_burns_none_of_its_rates() {
        for (class, left) in [(ErrorClass::Connect, 5), (ErrorClass::Throttled, 5), (ErrorClass::ServerError, 4)] {
            let (rule, permit) = Permit::granted(Kind::Rpm, 5);
            let mut admission = Admission { deployment: permit, ..Admission::default() };
            admission.call_failed(class, None);
            assert_eq!(rule.left(), left, "{class:?}");
        }
    }

    #[test]
    fn what_is_released_was_never_taken_and_what_is_forfeit_stays_spent() {
        let ends: [(fn(Admission), i64); 2] = [(Admission::release, 5), (Admission::forfeit, 4)];
        for (end, left) in ends {
            let (rule, caller) = Permit::granted(Kind::Rpm, 5);
            end(Admission { caller, ..Admission::default() });
            assert_eq!(rule.left(), left);
        }
    }
}
