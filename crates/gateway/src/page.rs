//! Lists come in pages. A page names the cursor of the next one; what is in a cursor is nobody's business but ours.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Serialize;

use crate::{
    input::Whole,
    problem::{Kind, Problem},
};

const MOST: i64 = 200;
const USUAL: i64 = 50;

/// How many rows a page has at most, as a query says it.
pub type Limit = Whole<1, MOST>;

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
    let text = URL_SAFE_NO_PAD.decode(cursor).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    text.filter(|text| !text.contains('\0')).ok_or_else(|| {
        Problem::new(Kind::BadRequest, "cursor is not one that a page of this list named").with("param", "cursor")
    })
}

pub fn read_limit(limit: Option<Limit>) -> i64 {
    limit.map_or(USUAL, |Whole(limit)| limit)
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
    fn bad_cursors_are_refused() {
        assert_eq!(read_cursor("%%%").unwrap_err().kind, Kind::BadRequest);
        let nul = URL_SAFE_NO_PAD.encode("a\0b");
        assert_eq!(read_cursor(&nul).unwrap_err().kind, Kind::BadRequest);
    }
}
