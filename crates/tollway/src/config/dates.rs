//! TOML has dates and times of its own; every key of ours that is one reads text. So both forms mean the same: `from =
//! 2026-01-01` and `from = "2026-01-01"`.

use std::{borrow::Cow, ops::Range};

use toml::{
    Value,
    de::{DeTable, DeValue},
};

/// The same document with its dates and times in quotes. Lines stay where they are; a document that cannot be parsed stays as it
/// is, for its errors are told elsewhere.
pub fn quoted(text: &str) -> Cow<'_, str> {
    let mut places = Vec::new();
    if let Ok(document) = DeTable::parse(text) {
        document.get_ref().values().for_each(|value| collect(value.get_ref(), value.span(), &mut places));
    }
    if places.is_empty() {
        return Cow::Borrowed(text);
    }
    places.sort_by_key(|place| place.start);
    let mut quoted = String::with_capacity(text.len() + 2 * places.len());
    let mut done = 0;
    for Range { start, end } in places {
        quoted.push_str(&text[done..start]);
        quoted.push('"');
        quoted.push_str(&text[start..end]);
        quoted.push('"');
        done = end;
    }
    quoted.push_str(&text[done..]);
    Cow::Owned(quoted)
}

fn collect(value: &DeValue<'_>, span: Range<usize>, places: &mut Vec<Range<usize>>) {
    match value {
        DeValue::Datetime(_) => places.push(span),
        DeValue::Array(items) => items.iter().for_each(|item| collect(item.get_ref(), item.span(), places)),
        DeValue::Table(table) => table.values().for_each(|value| collect(value.get_ref(), value.span(), places)),
        _ => {}
    }
}

/// The same for a value that did not come from the file.
pub fn as_text(value: Value) -> Value {
    match value {
        Value::Datetime(date) => Value::String(date.to_string()),
        Value::Array(items) => Value::Array(items.into_iter().map(as_text).collect()),
        Value::Table(table) => Value::Table(table.into_iter().map(|(key, value)| (key, as_text(value))).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_times_become_text_wherever_they_stand() {
        let text = "a = 2026-01-01 # 2026-01-01\n[b]\nc = [2026-01-01T10:00:00Z, { d = 10:30:00 }]\ne = '2026-01-01'\n\
                    [[f]]\ng.h = 2026-01-01 10:00:00\n";
        let wanted = "a = \"2026-01-01\" # 2026-01-01\n[b]\nc = [\"2026-01-01T10:00:00Z\", { d = \"10:30:00\" }]\n\
                      e = '2026-01-01'\n[[f]]\ng.h = \"2026-01-01 10:00:00\"\n";
        assert_eq!(quoted(text), wanted);
        for same in ["a = 1\n", "a = \n", ""] {
            assert_eq!(quoted(same), same);
        }
    }
}
