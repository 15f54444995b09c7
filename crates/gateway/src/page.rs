//! Lists come in pages. A page names the cursor of the next one; what is in a cursor is nobody's business but ours.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Serialize;

use crate::problem::{Kind, Problem};

const MOST: i64 = 200;
const USUAL: i64 = 50;

#[derive(Debug, Serialize)]
pub struct Page<T> {
    pub data: Vec<T>,
    /// Give it as `cursor` to get the next page; null on the last.
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// A page of at most `limit` out of `rows`, of which one more was asked for than the page holds.
    pub fn of(mut rows: Vec<T>, limit: i64, key: impl Fn(&T) -> String) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let has_more = rows.len() > limit;
        rows.truncate(limit);
        let next = rows.last().filter(|_| has_more).map(|last| URL_SAFE_NO_PAD.encode(key(last)));
        Self { data: rows, next }
    }
}

/// The key at which the page behind this cursor starts.
pub fn read_cursor(cursor: &str) -> Result<String, Problem> {
    URL_SAFE_NO_PAD.decode(cursor).ok().and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(|| {
        Problem::new(Kind::BadRequest, "cursor is not one that a page of this list named").with("param", "cursor")
    })
}

pub fn read_limit(limit: Option<i64>) -> Result<i64, Problem> {
    match limit.unwrap_or(USUAL) {
        limit @ 1..=MOST => Ok(limit),
        _ => Err(Problem::new(Kind::BadRequest, format_args!("limit is 1 to {MOST}")).with("param", "limit")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_page_names_the_next_and_the_last_does_not() {
        let full = Page::of(vec![5, 4, 3], 2, ToString::to_string);
        assert_eq!((full.data, read_cursor(&full.next.unwrap()).unwrap()), (vec![5, 4], "4".to_owned()));
        assert_eq!(Page::of(vec![3, 2], 2, ToString::to_string).next, None);
    }

    #[test]
    fn bad_cursors_and_limits_are_refused() {
        assert_eq!(read_cursor("%%%").unwrap_err().kind, Kind::BadRequest);
        assert_eq!(read_limit(Some(0)).unwrap_err().kind, Kind::BadRequest);
        assert_eq!(read_limit(Some(MOST + 1)).unwrap_err().kind, Kind::BadRequest);
        assert_eq!(read_limit(None).unwrap(), USUAL);
    }
}
