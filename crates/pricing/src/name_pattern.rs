//! Which names mean a provider or a model. The notation is explained in `data/match_rules.py`.

use serde::Deserialize;

/// Holds lower-case texts in which `#` stands for one digit.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Raw")]
pub(crate) enum NamePattern {
    Equals(Box<str>),
    StartsWith(Box<str>),
    EndsWith(Box<str>),
    Contains(Box<str>),
    Any(Vec<NamePattern>),
    All(Vec<NamePattern>),
    None(Vec<NamePattern>),
}

impl NamePattern {
    /// `name` is lower-case.
    pub(crate) fn matches(&self, name: &str) -> bool {
        let name_bytes = name.as_bytes();
        match self {
            Self::Equals(text) => alike(text.as_bytes(), name_bytes),
            Self::StartsWith(text) => name_bytes.get(..text.len()).is_some_and(|part| alike(text.as_bytes(), part)),
            Self::EndsWith(text) => {
                let from = name.len().checked_sub(text.len());
                from.is_some_and(|from| alike(text.as_bytes(), &name_bytes[from..]))
            }
            Self::Contains(text) => name_bytes.windows(text.len()).any(|part| alike(text.as_bytes(), part)),
            Self::Any(rules) => rules.iter().any(|rule| rule.matches(name)),
            Self::All(rules) => rules.iter().all(|rule| rule.matches(name)),
            Self::None(rules) => !rules.iter().any(|rule| rule.matches(name)),
        }
    }
}

fn alike(text: &[u8], part: &[u8]) -> bool {
    let same = |(want, got): (&u8, &u8)| if *want == b'#' { got.is_ascii_digit() } else { want == got };
    text.len() == part.len() && text.iter().zip(part).all(same)
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Raw {
    Text(String),
    Any(Vec<NamePattern>),
    All { all: Vec<NamePattern> },
    None { not: Vec<NamePattern> },
}

impl TryFrom<Raw> for NamePattern {
    type Error = String;

    fn try_from(raw: Raw) -> Result<Self, String> {
        let text = match raw {
            Raw::Any(rules) => return Ok(Self::Any(rules)),
            Raw::All { all } => return Ok(Self::All(all)),
            Raw::None { not } => return Ok(Self::None(not)),
            Raw::Text(text) => text,
        };
        match text.split_at_checked(1) {
            Some((_, "")) | None => Err(format!("{text:?} matches nothing or everything")),
            Some(("=", rest)) => Ok(Self::Equals(rest.into())),
            Some(("^", rest)) => Ok(Self::StartsWith(rest.into())),
            Some(("$", rest)) => Ok(Self::EndsWith(rest.into())),
            Some(("*", rest)) => Ok(Self::Contains(rest.into())),
            Some(_) => Err(format!("{text:?} begins with none of = ^ $ *")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rule: &str, yes: &[&str], no: &[&str]) {
        let rule: NamePattern = serde_json::from_str(rule).unwrap();
        for name in yes {
            assert!(rule.matches(name), "{rule:?} should match {name}");
        }
        for name in no {
            assert!(!rule.matches(name), "{rule:?} should not match {name}");
        }
    }

    #[test]
    fn texts() {
        check(r#""=o3""#, &["o3"], &["o3-mini", "xo3", ""]);
        check(r#""^claude-2""#, &["claude-2", "claude-2.1"], &["claude-", "x-claude-2"]);
        check(r#""$/us.glm""#, &["arn/us.glm"], &["/us.glm-5", "glm"]);
        check(r#""*claude""#, &["a.claude-3", "claude"], &["clau"]);
        check(r#""=o3-####-##""#, &["o3-2026-11"], &["o3-2026-1x", "o3-####-##"]);
    }

    #[test]
    fn combinations() {
        check(r#"["=a","^b"]"#, &["a", "bc"], &["c"]);
        let not_spoken = r#"{"all":["^gemini",{"not":["$-tts","*-tts-"]}]}"#;
        check(not_spoken, &["gemini-2", "gemini-ttsx"], &["gemini-tts", "gemini-tts-1", "x"]);
    }

    #[test]
    fn a_rule_without_a_text_is_refused() {
        for rule in [r#""""#, r#""*""#, r#""gpt""#, r#"{"nor":[]}"#, "1"] {
            assert!(serde_json::from_str::<NamePattern>(rule).is_err(), "{rule}");
        }
    }
}
