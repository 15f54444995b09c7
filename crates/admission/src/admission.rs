//! The resources of one request while it runs: its slot, its permits and its reservation. They end by `settle`,
//! `release` or `forfeit`; only a crash drops them.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use domain::{ErrorClass, LedgerRow, Money};

use scheduler::{CallGuard, SlotGuard};

use crate::{budgets::Reservation, catalog::ActiveDeployment, limits::Permit};

/// The deployment of one call, with the permits of that deployment's limits and the reservation in budgets.
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

/// All resources of one request: a slot or a place in its lane, the permits of its caller's limits and, for the call in
/// flight, the permits of the deployment's limits and the reservation in budgets.
///
/// It ends by [`Self::settle`], [`Self::release`] or [`Self::forfeit`]. If it is dropped instead, as when the process
/// is torn down, slots are returned, rates stay spent, and a reservation stays used if its call was sent: the cost of
/// that call is unknown.
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

    /// Splits off the resources of the call that ended. They are settled with the call's row, while the request
    /// continues.
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

    /// The stream broke off. `tokens`: what it used; `reported`: what the provider reported of that.
    pub fn broke_off(&mut self, class: ErrorClass, tokens: i64, reported: Option<i64>) {
        self.call_failed(class, reported);
        self.caller.settle_tokens(tokens);
    }

    /// The next call is not made: its permits and its reservation are returned.
    pub fn release_call(&mut self) {
        self.split_call().release();
    }

    /// No deployment accepted a call of this request: the rates of its caller are refunded.
    pub fn refund(&mut self) {
        self.caller.refund();
    }

    /// The answer is no longer wanted: the slot and the permits of the caller's limits are returned, while the call in
    /// flight is drained.
    pub fn leave_place(&mut self) {
        self.place = Occupancy::None;
        self.caller = Permit::default();
    }

    /// The call has ended: everything except the reservation is returned before the row is committed.
    pub fn leave_limits(&mut self) {
        self.leave_place();
        self.deployment = Permit::default();
    }

    /// The row is committed: the reservation is settled at the actual cost, and everything else is returned.
    pub fn settle(self, row: &LedgerRow) {
        self.reservation.settle(row);
    }

    /// Nothing was sent, so nothing can be charged: the permits and the reservation are returned.
    pub fn release(self) {
        self.caller.cancel();
        self.deployment.cancel();
        self.reservation.release();
    }

    /// This process will not learn how the call ended. Another process books it at its worst case, so the reservation
    /// stays used and the rates stay spent.
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
