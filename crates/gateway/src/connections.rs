//! Connection limits. A connection costs a file descriptor before its client is known, so connections are bounded in
//! total and per address, below what the system allows the process. When the limit is reached, the connection that has
//! been idle longest is closed, as in nginx: idle connections keep no client out. When all are busy, a small reserve
//! answers health checks and tells every other client to retry.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Instant,
};

use tokio_util::sync::CancellationToken;

/// Connections beyond the most, for health checks.
pub const HEALTH_RESERVE: usize = 16;

pub struct Connections {
    limits: engine::Connections,
    began: Instant,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    next: u64,
    all: HashMap<u64, Arc<Connection>>,
    by_client: HashMap<IpAddr, usize>,
    /// In the order in which they came.
    reserve: Vec<Spare>,
}

/// One of the reserve.
struct Spare {
    id: u64,
    client: IpAddr,
    cut: CancellationToken,
}

/// One that is served.
pub struct Connection {
    client: IpAddr,
    began: Instant,
    requests: AtomicU64,
    /// Requests whose answers have not ended.
    busy: AtomicUsize,
    /// When it last had none, in milliseconds after `began`.
    idle_since: AtomicU64,
    /// Cancelled when it gives way to another one.
    evicted: CancellationToken,
}

/// A place among the connections; free again when it is dropped.
pub struct Seat {
    id: u64,
    among: Arc<Connections>,
    pub kind: SeatKind,
}

pub enum SeatKind {
    Full(Arc<Connection>),
    /// Answers health checks alone, until it is cancelled.
    HealthOnly(CancellationToken),
}

/// A request that is being answered.
pub struct Busy(Arc<Connection>);

impl Connections {
    pub fn new(limits: engine::Connections) -> Arc<Self> {
        Arc::new(Self { limits, began: Instant::now(), open: Mutex::default() })
    }

    pub fn admit(self: &Arc<Self>, address: IpAddr, now: Instant) -> Seat {
        let client = client_of(address);
        let mut open = self.lock();
        let of_client = open.by_client.get(&client).copied().unwrap_or_default();
        let fits = if of_client >= self.limits.per_address {
            open.evict_idle(|connection| connection.client == client)
        } else {
            open.all.len() < self.limits.most || open.evict_idle(|_| true)
        };
        let id = open.next;
        open.next += 1;
        let kind = if fits { open.seat(id, client, self.began, now) } else { open.seat_in_reserve(id, client) };
        Seat { id, among: Arc::clone(self), kind }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn seat(&mut self, id: u64, client: IpAddr, began: Instant, now: Instant) -> SeatKind {
        let connection = Arc::new(Connection {
            client,
            began,
            requests: AtomicU64::new(0),
            busy: AtomicUsize::new(0),
            idle_since: AtomicU64::new(millis(began, now)),
            evicted: CancellationToken::new(),
        });
        self.all.insert(id, Arc::clone(&connection));
        *self.by_client.entry(client).or_default() += 1;
        SeatKind::Full(connection)
    }

    /// When the reserve is full, the client that has most of it gives way to itself or to others.
    fn seat_in_reserve(&mut self, id: u64, client: IpAddr) -> SeatKind {
        if self.reserve.len() >= HEALTH_RESERVE {
            let of = |client: IpAddr| self.reserve.iter().filter(|spare| spare.client == client).count();
            // Of equals the first, which came earlier.
            let oldest = (0..self.reserve.len()).rev().max_by_key(|at| of(self.reserve[*at].client));
            if let Some(at) = oldest {
                self.reserve.remove(at).cut.cancel();
            }
        }
        let cut = CancellationToken::new();
        self.reserve.push(Spare { id, client, cut: cut.clone() });
        SeatKind::HealthOnly(cut)
    }

    /// Closes the connection that has been idle longest; `false` if all are busy.
    fn evict_idle(&mut self, fits: impl Fn(&Connection) -> bool) -> bool {
        let idle = self.all.iter().filter(|(_, connection)| connection.is_idle() && fits(connection));
        let oldest = idle.min_by_key(|(id, connection)| (connection.idle_since.load(Ordering::Relaxed), **id));
        let Some(id) = oldest.map(|(id, _)| *id) else { return false };
        if let Some(connection) = self.remove(id) {
            connection.evicted.cancel();
        }
        true
    }

    fn remove(&mut self, id: u64) -> Option<Arc<Connection>> {
        self.reserve.retain(|spare| spare.id != id);
        let connection = self.all.remove(&id)?;
        if let Some(count) = self.by_client.get_mut(&connection.client) {
            *count -= 1;
            if *count == 0 {
                self.by_client.remove(&connection.client);
            }
        }
        Some(connection)
    }
}

impl Connection {
    pub fn begin_request(self: &Arc<Self>) -> Busy {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.busy.fetch_add(1, Ordering::Relaxed);
        Busy(Arc::clone(self))
    }

    /// No request has come yet.
    pub fn is_new(&self) -> bool {
        self.requests.load(Ordering::Relaxed) == 0
    }

    pub fn evicted(&self) -> &CancellationToken {
        &self.evicted
    }

    fn is_idle(&self) -> bool {
        self.busy.load(Ordering::Relaxed) == 0
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.idle_since.store(millis(self.0.began, Instant::now()), Ordering::Relaxed);
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.among.lock().remove(self.id);
    }
}

fn millis(began: Instant, now: Instant) -> u64 {
    u64::try_from(now.saturating_duration_since(began).as_millis()).unwrap_or(u64::MAX)
}

/// The client of a connection. One customer commonly has a whole /64 of IPv6.
fn client_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn connections(most: usize, per_address: usize) -> Arc<Connections> {
        Connections::new(engine::Connections { most, per_address })
    }

    fn from(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn full(seat: &Seat) -> &Arc<Connection> {
        match &seat.kind {
            SeatKind::Full(connection) => connection,
            SeatKind::HealthOnly(_) => panic!("it is one of the reserve"),
        }
    }

    fn is_evicted(seat: &Seat) -> bool {
        full(seat).evicted.is_cancelled()
    }

    #[test]
    fn the_connection_that_waited_longest_gives_way() {
        let (all, now) = (connections(3, 3), Instant::now());
        let later = |n| now + Duration::from_secs(n);
        let seats = [all.admit(from(1), later(0)), all.admit(from(2), later(1)), all.admit(from(3), later(2))];
        let request = full(&seats[0]).begin_request();
        let next = all.admit(from(4), later(3));
        assert_eq!(seats.each_ref().map(is_evicted), [false, true, false], "the first one is at work");
        full(&next);
        drop(request);
        drop(seats);
        assert_eq!(all.lock().all.len(), 1, "a connection that was evicted is counted out once");
    }

    #[test]
    fn one_address_gives_way_to_itself() {
        let (all, now) = (connections(10, 2), Instant::now());
        let seats = [all.admit(from(1), now), all.admit(from(1), now), all.admit(from(2), now)];
        let more = all.admit(from(1), now);
        assert_eq!(seats.each_ref().map(is_evicted), [true, false, false]);
        let _requests = [full(&seats[1]).begin_request(), full(&more).begin_request()];
        assert!(matches!(all.admit(from(1), now).kind, SeatKind::HealthOnly(_)));
        full(&all.admit(from(3), now));
    }

    #[test]
    fn when_all_are_at_work_a_reserve_answers_health_checks() {
        let (all, now) = (connections(1, 1), Instant::now());
        let only = all.admit(from(1), now);
        let _request = full(&only).begin_request();
        let mut reserve: Vec<Seat> = (0..HEALTH_RESERVE).map(|_| all.admit(from(2), now)).collect();
        let is_cut = |seat: &Seat| match &seat.kind {
            SeatKind::HealthOnly(cut) => cut.is_cancelled(),
            SeatKind::Full(_) => panic!("there was no room"),
        };
        assert!(!reserve.iter().any(is_cut));
        reserve.push(all.admit(from(2), now));
        assert!(is_cut(&reserve[0]) && !reserve[1..].iter().any(is_cut), "the oldest gives way");
        // A load balancer's check stays, whatever a crowd of another address does.
        let check = all.admit(from(3), now);
        reserve.extend((0..2 * HEALTH_RESERVE).map(|_| all.admit(from(2), now)));
        assert!(!is_cut(&check));
        drop((reserve, check));
        assert!(all.lock().reserve.is_empty());
    }

    #[test]
    fn a_network_of_ipv6_is_one_client() {
        let parse = |text: &str| client_of(text.parse().unwrap());
        assert_eq!(parse("2001:db8:1:2:3::4"), parse("2001:db8:1:2:ffff::1"));
        assert_ne!(parse("2001:db8:1:2::1"), parse("2001:db8:1:3::1"));
        assert_eq!(parse("::ffff:10.0.0.1"), from(1));
        assert_ne!(from(1), from(2));
    }
}
