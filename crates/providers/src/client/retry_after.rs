//! How long a provider asks to be left alone.

use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::header::{HeaderMap, RETRY_AFTER};

/// A longer wait cannot be meant: it is the time of an epoch, or a date of a clock that is wrong. It counts as nothing said, for
/// waiting it out would close a deployment that answers again in a second.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3_600);

/// `retry-after-ms` (OpenAI's, the finer one) before `Retry-After` in seconds or as an HTTP date; a date gone by is zero. `None`
/// when nothing is said, or nothing that can be meant.
pub(super) fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let text = |value: Option<&reqwest::header::HeaderValue>| Some(value?.to_str().ok()?.trim().to_owned());
    let ms = text(headers.get("retry-after-ms")).and_then(|ms| seconds(ms.parse::<f64>().ok()? / 1_000.0));
    let wait = ms.or_else(|| {
        let given = text(headers.get(RETRY_AFTER))?;
        match given.parse::<f64>() {
            Ok(number) => seconds(number),
            Err(_) => until(&given, now),
        }
    })?;
    (wait <= MAX_RETRY_AFTER).then_some(wait)
}

fn seconds(number: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(number).ok().filter(|wait| *wait <= MAX_RETRY_AFTER)
}

fn until(date: &str, now: DateTime<Utc>) -> Option<Duration> {
    // A day of the week that does not fit the date is no reason to come back too early.
    let date = date.split_once(", ").map_or(date, |(_, rest)| rest);
    let date = DateTime::parse_from_rfc2822(date).ok()?;
    Some(date.signed_duration_since(now).to_std().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(given: &[(&'static str, &str)], expected: Option<u64>) {
        let now = DateTime::from_timestamp(784_111_700, 0).unwrap();
        let headers = given.iter().map(|(k, v)| (k.parse().unwrap(), v.parse().unwrap())).collect();
        assert_eq!(retry_after(&headers, now), expected.map(Duration::from_millis), "{given:?}");
    }

    #[test]
    fn all_forms_are_understood() {
        check(&[], None);
        check(&[("retry-after", "20")], Some(20_000));
        check(&[("retry-after", "0.5")], Some(500));
        check(&[("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT")], Some(77_000));
        check(&[("retry-after", "Sun, 06 Nov 1994 08:00:00 GMT")], Some(0));
        check(&[("retry-after", "20"), ("retry-after-ms", "1500")], Some(1_500));
        check(&[("retry-after", "7"), ("retry-after-ms", "soon")], Some(7_000));
    }

    #[test]
    fn what_cannot_be_meant_is_nothing_said() {
        for nonsense in ["", "-5", "NaN", "tomorrow", "1h", "1e300", "inf", "86400", "1893456000", "3601"] {
            check(&[("retry-after", nonsense)], None);
        }
        check(&[("retry-after", "Sat, 01 Jan 2994 08:49:37 GMT")], None);
        check(&[("retry-after", "3600")], Some(3_600_000));
        check(&[("retry-after", "7"), ("retry-after-ms", "1893456000000")], Some(7_000));
    }
}
