//! Finds places in the file's text: the line of a setting, and the setting of a place.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

/// Counted from 1.
pub fn line_of(text: &str, offset: usize) -> usize {
    let offset = offset.min(text.len());
    1 + text.as_bytes()[..offset].iter().filter(|byte| **byte == b'\n').count()
}

/// The dotted path of the innermost setting that `span` lies in, key or value.
pub fn path_at(text: &str, span: &Range<usize>) -> Vec<String> {
    let mut path = Vec::new();
    if let Ok(table) = DeTable::parse(text) {
        descend(table.get_ref(), span, &mut path);
    }
    path
}

fn descend(table: &DeTable<'_>, span: &Range<usize>, path: &mut Vec<String>) -> bool {
    let holds = |outer: Range<usize>| outer.start <= span.start && span.end <= outer.end && !outer.is_empty();
    for (key, value) in table {
        path.push(key.get_ref().to_string());
        if holds(key.span()) || below(value.get_ref(), span, path) || holds(value.span()) {
            return true;
        }
        path.pop();
    }
    false
}

/// A table's own span covers its header only, so tables are always looked into.
fn below(value: &DeValue<'_>, span: &Range<usize>, path: &mut Vec<String>) -> bool {
    match value {
        DeValue::Table(table) => descend(table, span, path),
        DeValue::Array(items) => items.iter().enumerate().any(|(index, item)| {
            path.push(index.to_string());
            let found = below(item.get_ref(), span, path);
            if !found {
                path.pop();
            }
            found
        }),
        _ => false,
    }
}

/// The line on which the setting with this path stands.
pub fn line_of_path(text: &str, path: &[&str]) -> Option<usize> {
    let document = DeTable::parse(text).ok()?;
    let mut table = document.get_ref();
    let (last, parents) = path.split_last()?;
    for name in parents {
        table = table.iter().find(|(key, _)| key.get_ref() == name)?.1.get_ref().as_table()?;
    }
    let (key, _) = table.iter().find(|(key, _)| key.get_ref() == last)?;
    Some(line_of(text, key.span().start))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "[worker]\nslots = 3\n\n[deployments.a]\nmodel = 'm'\ncaps = { x = 1 }\n\n[[prices]]\nmodel = 'p'\n";

    #[test]
    fn a_place_and_its_setting_find_each_other() {
        for (needle, path, line) in [
            ("slots", vec!["worker", "slots"], 2),
            ("'m'", vec!["deployments", "a", "model"], 5),
            ("x =", vec!["deployments", "a", "caps", "x"], 6),
        ] {
            let start = TEXT.find(needle).unwrap();
            assert_eq!(path_at(TEXT, &(start..start + 1)), path);
            assert_eq!((line_of(TEXT, start), line_of_path(TEXT, &path)), (line, Some(line)));
        }
        let price = TEXT.find("'p'").unwrap();
        assert_eq!(path_at(TEXT, &(price..price + 3)), ["prices", "0", "model"]);
        assert_eq!(line_of_path(TEXT, &["worker", "none"]), None);
    }
}
