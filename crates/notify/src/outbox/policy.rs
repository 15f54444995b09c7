//! When a message that did not arrive is tried again: arithmetic.

use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::{
    StatusCode,
    header::{HeaderMap, RETRY_AFTER},
};

/// After the first failure, the second, …; when they are used up, the message is given up. Together about four days: an outage of a
/// receiver over a weekend.
const PAUSES: [Duration; 13] = {
    const HOUR: u64 = 3_600;
    [
        Duration::from_secs(5),
        Duration::from_secs(60),
        Duration::from_secs(600),
        Duration::from_secs(HOUR),
        Duration::from_secs(4 * HOUR),
        Duration::from_secs(8 * HOUR),
        Duration::from_secs(11 * HOUR),
        Duration::from_secs(12 * HOUR),
        Duration::from_secs(12 * HOUR),
        Duration::from_secs(12 * HOUR),
        Duration::from_secs(12 * HOUR),
        Duration::from_secs(12 * HOUR),
        Duration::from_secs(12 * HOUR),
    ]
};
/// A receiver that refuses a message is asked so often: it may be about to be set up.
const REFUSED_TRIES: i32 = 3;
/// A receiver's `Retry-After` is kept up to this.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3_600);

/// Why a message did not arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The network, or a receiver in trouble: it may arrive another time.
    Passing,
    /// Too much at once; the receiver says for how long, or does not.
    Throttled(Option<Duration>),
    /// The receiver understood it and does not want it: a wrong address, a token that was revoked, a payload that it cannot read.
    Refused,
    /// It can never arrive: a bad address, or 410.
    Hopeless,
}

impl Reason {
    pub fn of_answer(status: StatusCode, headers: &HeaderMap, now: DateTime<Utc>) -> Self {
        match status {
            // The receiver's way to say that it wants no more of them.
            StatusCode::GONE => Self::Hopeless,
            StatusCode::REQUEST_TIMEOUT | StatusCode::CONFLICT | StatusCode::TOO_EARLY | StatusCode::LOCKED => {
                Self::Passing
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                Self::Throttled(headers.get(RETRY_AFTER).and_then(|wait| read_wait(wait.to_str().ok()?, now)))
            }
            // A redirect too: it is not followed, for it would lead past the filter of addresses.
            status if status.is_redirection() || status.is_client_error() => Self::Refused,
            _ => Self::Passing,
        }
    }
}

/// Seconds, or a date. Nothing is read of what cannot be meant.
fn read_wait(text: &str, now: DateTime<Utc>) -> Option<Duration> {
    let text = text.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => (DateTime::parse_from_rfc2822(text).ok()?.to_utc() - now).to_std().ok()?,
    };
    (!wait.is_zero()).then(|| wait.min(MAX_RETRY_AFTER))
}

/// How long to wait after the try of this number failed; `None`: it is given up.
pub fn next(reason: Reason, tries: i32, jitter: f64) -> Option<Duration> {
    let pause = usize::try_from(tries - 1).ok().and_then(|nth| PAUSES.get(nth)).map(|pause| pause.mul_f64(jitter))?;
    match reason {
        Reason::Passing | Reason::Throttled(None) => Some(pause),
        // Never earlier than asked, and not all at the same moment.
        Reason::Throttled(Some(wait)) => Some(pause.max(wait.mul_f64(jitter.max(1.0)))),
        Reason::Refused if tries < REFUSED_TRIES => Some(pause),
        Reason::Refused | Reason::Hopeless => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-11-23T12:00:00Z";

    fn of(status: u16, retry_after: Option<&str>) -> Reason {
        let mut headers = HeaderMap::new();
        if let Some(wait) = retry_after {
            headers.insert(RETRY_AFTER, wait.parse().unwrap());
        }
        Reason::of_answer(StatusCode::from_u16(status).unwrap(), &headers, NOW.parse().unwrap())
    }

    #[test]
    fn a_message_is_given_up_after_days() {
        let waits: Vec<Duration> = (1..).map_while(|tries| next(Reason::Passing, tries, 1.0)).collect();
        let (total, day): (Duration, _) = (waits.iter().sum(), Duration::from_secs(24 * 3600));
        assert!((3 * day..5 * day).contains(&total), "{total:?}");
        assert!(waits.is_sorted() && waits[0] < Duration::from_secs(10), "{waits:?}");
    }

    #[test]
    fn the_wait_that_a_receiver_asks_for_is_kept_up_to_an_hour() {
        let wait = |text| match of(429, Some(text)) {
            Reason::Throttled(wait) => wait.map(|wait| wait.as_secs()),
            other => panic!("{other:?}"),
        };
        assert_eq!(wait("30"), Some(30));
        assert_eq!(wait("Mon, 23 Nov 2026 12:05:00 GMT"), Some(300));
        assert_eq!(wait("1893456000"), Some(3_600));
        assert_eq!(wait("Wed, 23 Nov 2044 12:05:00 GMT"), Some(3_600));
        for nothing in ["0", "-5", "soon", "", "Mon, 23 Nov 2020 12:05:00 GMT"] {
            assert_eq!(wait(nothing), None, "{nothing:?}");
        }
        assert_eq!(of(503, Some("30")), Reason::Throttled(Some(Duration::from_secs(30))));
        let after = |tries, jitter| next(of(429, Some("30")), tries, jitter).unwrap();
        assert_eq!(after(1, 0.9), Duration::from_secs(30), "never earlier than asked");
        assert!(after(1, 1.1) > Duration::from_secs(30));
        assert_eq!(after(2, 1.0), Duration::from_secs(60), "nor earlier than without");
        assert_eq!(next(of(429, None), 1, 1.0), next(Reason::Passing, 1, 1.0));
    }

    #[test]
    fn what_can_never_succeed_is_given_up_after_a_few_tries() {
        for status in [301, 302, 400, 401, 403, 404, 405, 413, 415, 422, 451] {
            let tries = (1..).take_while(|tries| next(of(status, None), *tries, 1.0).is_some()).count() + 1;
            assert_eq!(tries, 3, "{status}");
        }
        assert_eq!(next(of(410, None), 1, 1.0), None);
        for status in [408, 409, 425, 429, 500, 502, 503, 504] {
            assert!(next(of(status, None), 7, 1.0).is_some(), "{status}");
        }
    }
}
