use proptest::prelude::*;
use serde_json::value::RawValue;

use super::*;

fn is_json(text: &str) -> bool {
    let mut scanner = Scanner::new(text);
    scanner.value().is_ok() && scanner.finish().is_ok()
}

fn check(text: &str) {
    let expected = serde_json::from_str::<&RawValue>(text).is_ok();
    assert_eq!(is_json(text), expected, "{text:?}");
}

#[test]
fn the_edges_of_the_grammar_are_serdes() {
    for number in ["0", "-0", "01", "-", "1.", ".1", "1.0", "1e5", "1E+05", "1e", "1e+", "-1.5e-9", "+1", "1.e5", "00"]
    {
        check(number);
        check(&format!("[{number} ]"));
    }
    for text in
        [r#""a"#, r#""\u12"#, r#""\u12g4""#, r#""\ud800""#, r#""\x""#, r#""\"#, "\"\u{1f}\"", "\"\u{7f}\"", "\"é\""]
    {
        check(text);
    }
    for text in
        ["", " ", "tru", "nul", "truee", "[1,]", "[,1]", "{,}", "{\"a\":1,}", "{\"a\"1}", "{1:1}", "[1 2]", "[]]"]
    {
        check(text);
    }
}

#[test]
fn long_texts_end_at_their_quote() {
    for length in [0, 1, 7, 8, 63, 64, 65, 500] {
        let text = "x".repeat(length);
        for inside in ["", "\\\"", "\\n", "\u{1}", "é"] {
            check(&format!("\"{text}{inside}{text}\""));
            check(&format!("\"{text}{inside}{text}"));
        }
    }
}

#[test]
fn nesting_is_bounded() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(is_json(&nested(127)));
    assert!(!is_json(&nested(129)) && !is_json(&nested(1_000_000)));
}

#[test]
fn a_cut_text_is_told_from_a_wrong_one() {
    for text in ["{", "{\"a\"", "{\"a\":", "[1,", "\"abc", "tru", "\"\\", "\"\\u1"] {
        let flaw = Scanner::new(text).value().unwrap_err();
        assert!(flaw.is_cut, "{text}: {flaw}");
    }
    for text in ["{a", "[1 2", "tree"] {
        assert!(!Scanner::new(text).value().unwrap_err().is_cut, "{text}");
    }
}

proptest! {
    #[test]
    fn it_takes_what_serde_takes(text in r#"([ \[\]{},:"\\a1e.0-]|true|null|"a":|"\\u00e9")*"#) {
        let expected = serde_json::from_str::<&RawValue>(&text).is_ok();
        prop_assert_eq!(is_json(&text), expected);
    }

    #[test]
    fn no_text_makes_it_panic(text in any::<String>()) {
        let _ = is_json(&text);
    }
}
