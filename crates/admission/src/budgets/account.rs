//! The arithmetic of one replica's grant in one cell: granted, used, and how much more to grant. Pure. Amounts are only
//! ever returned explicitly, so an amount that gets lost on the way stays spent.

/// With less than 1/`TIGHT` of the limit left, each call is granted by itself.
const TIGHT: i128 = 10;
/// A grant ahead of demand is at most 1/`SHARE` of a replica's fair share of what is left.
const SHARE: i128 = 4;
/// A grant ahead of demand covers at most this many ticks of recent demand.
const AHEAD: i128 = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Account {
    pub granted: i128,
    /// Charged, reserved by calls in flight, or kept for calls of unknown cost. It exceeds the grant when a call cost
    /// more than its reservation, or started before the budget was declared.
    pub used: i128,
    /// The part of `used` that calls in flight have reserved.
    pub reserved: i128,
}

impl Account {
    pub fn free(&self) -> i128 {
        (self.granted - self.used).max(0)
    }

    /// Reserves an amount for a call, if it is available.
    pub fn take(&mut self, amount: i128) -> bool {
        let fits = self.used + amount <= self.granted;
        if fits {
            self.force(amount);
        }
        fits
    }

    /// Reserves the amount even if it is not available.
    pub fn force(&mut self, amount: i128) {
        self.used += amount;
        self.reserved += amount;
    }

    /// Ends the reservation of a call that was charged this much; 0 if the call was not made.
    pub fn settle(&mut self, held: i128, charged: i128) {
        self.reserved -= held;
        self.used += charged - held;
    }

    /// The cost of the call is unknown: its reservation stays used.
    pub fn forfeit(&mut self, held: i128) {
        self.reserved -= held;
    }

    /// The used amount that neither the ledger confirms nor a call in flight has reserved, less what is still
    /// `doubtful`. The ledger's sum must be newer than the account: a call that ended in between counts on both sides
    /// and makes the result too small, never too large.
    pub fn unconfirmed(&self, spent: i128, doubtful: i128) -> i128 {
        (self.used - self.reserved - spent - doubtful).max(0)
    }

    /// The ledger's sum beyond the used amount: another process booked it. A call that is committed but not settled yet
    /// counts as well.
    pub fn missing(&self, spent: i128) -> i128 {
        (spent + self.reserved - self.used).max(0)
    }

    /// Returns the unreserved part of the grant beyond `free`.
    pub fn keep(&mut self, free: i128) {
        self.granted = self.granted.min(self.used + free.max(0));
    }
}

/// The state of a budget's cell outside this replica's own grant.
#[derive(Debug, Clone, Copy)]
pub struct Headroom {
    pub cap: i128,
    /// Granted or spent elsewhere.
    pub others: i128,
    pub replicas: i128,
    /// Something may be granted.
    pub is_open: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Granted {
    pub granted: i128,
    /// What is left if this replica returns its whole unreserved grant.
    pub left: i128,
    /// So little is left that nothing is granted ahead of demand.
    pub is_tight: bool,
}

/// The new grant of the account, never less than the present one. It covers those of the `needs` that fit, each as a
/// whole and in order. While plenty is left, it adds an advance sized by the demand of the last tick (`recent`).
pub fn grant(account: &Account, needs: &[i128], recent: i128, room: Headroom) -> Granted {
    let left = room.cap - room.others - account.used;
    let is_tight = left * TIGHT < room.cap;
    let kept = account.granted.max(account.used);
    if !room.is_open {
        return Granted { granted: kept, left, is_tight };
    }
    let mut wanted = 0;
    for need in needs {
        if wanted + need <= left {
            wanted += need;
        }
    }
    if !is_tight {
        let ahead = (recent * AHEAD).min(left / (SHARE * room.replicas.max(1)));
        wanted = (wanted + ahead).min(left);
    }
    Granted { granted: kept.max(account.used + wanted), left, is_tight }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(cap: i128, others: i128) -> Headroom {
        Headroom { cap, others, replicas: 2, is_open: true }
    }

    #[test]
    fn what_a_call_did_not_cost_is_free_again() {
        let mut account = Account { granted: 100, ..Account::default() };
        assert!(account.take(60) && !account.take(60));
        account.settle(60, 25);
        assert_eq!(account, Account { granted: 100, used: 25, reserved: 0 });
        assert!(account.take(75));
        account.forfeit(75);
        assert_eq!((account.free(), account.reserved), (0, 0), "nobody knows what it cost");
    }

    #[test]
    fn grants_follow_need_and_shrink_near_the_limit() {
        let account = Account { granted: 0, used: 0, reserved: 0 };
        let granted = |needs: &[i128], recent, others| grant(&account, needs, recent, room(1_000, others)).granted;
        assert_eq!(granted(&[5], 0, 0), 5, "the first call, and no more");
        assert_eq!(granted(&[5], 10, 0), 45, "four ticks ahead");
        assert_eq!(granted(&[5], 1_000, 0), 130, "at most a quarter of its share of what is left");
        assert_eq!(granted(&[5], 1_000, 901), 5, "less than a tenth is left");
        assert_eq!(granted(&[60, 50, 30], 0, 901), 90, "calls are granted whole");
        assert_eq!(granted(&[100], 0, 901), 0);
    }

    #[test]
    fn what_it_has_is_never_taken_from_it() {
        let account = Account { granted: 80, used: 60, reserved: 10 };
        assert_eq!(grant(&account, &[], 0, room(50, 20)).granted, 80, "the limit was lowered");
        let overdrawn = Account { granted: 10, used: 30, reserved: 30 };
        assert_eq!(grant(&overdrawn, &[1], 0, Headroom { is_open: false, ..room(50, 0) }).granted, 30);
    }
}

#[cfg(test)]
mod machine;
