//! Tags say what a call was for. Three have columns of their own in every report; the rest are free.

use std::{collections::BTreeMap, str::FromStr};

use serde::{Deserialize, Serialize};

/// What stands in a report where a caller said nothing: never null, so that it can be found and mended.
pub const UNATTRIBUTED: &str = "unattributed";
const MOST_TAGS: usize = 16;
const LONGEST: usize = 128;

/// In JSON a flat object: `{"environment":"prod","feature":"search","customer":"acme","sprint":"42"}`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, String>", into = "BTreeMap<String, String>")]
pub struct Tags(BTreeMap<String, String>);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadTags {
    #[error("tags are written as key=value,key=value; {0:?} is not")]
    Form(String),
    #[error("a tag's key has 1 to 128 of the characters a-z, 0-9, _, - and .; {0:?} does not")]
    Key(String),
    #[error("the value of tag {0:?} is empty, longer than 128 bytes, or has control characters")]
    Value(String),
    #[error("{0:?} comes from the key and cannot be set as a tag")]
    Reserved(String),
    #[error("at most 16 tags are allowed (got {0})")]
    TooMany(usize),
    #[error(
        "tags are UTF-8; a client that cannot send that in a header writes it percent-encoded, as in customer=M%C3%BCller"
    )]
    NotUtf8,
}

impl Tags {
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }
    pub fn environment(&self) -> &str {
        self.get("environment").unwrap_or(UNATTRIBUTED)
    }
    pub fn feature(&self) -> &str {
        self.get("feature").unwrap_or(UNATTRIBUTED)
    }
    pub fn customer(&self) -> Option<&str> {
        self.get("customer")
    }
    pub fn cost_center(&self) -> Option<&str> {
        self.get("cost_center")
    }
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(k, v)| (k.as_str(), v.as_str()))
    }
    /// These tags, with `over` winning where both say something.
    pub fn overridden_by(mut self, over: Self) -> Self {
        self.0.extend(over.0);
        self
    }
}

impl TryFrom<BTreeMap<String, String>> for Tags {
    type Error = BadTags;

    fn try_from(map: BTreeMap<String, String>) -> Result<Self, BadTags> {
        if map.len() > MOST_TAGS {
            return Err(BadTags::TooMany(map.len()));
        }
        for (key, value) in &map {
            let key_fits = (1..=LONGEST).contains(&key.len())
                && key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-.".contains(&b));
            if !key_fits {
                return Err(BadTags::Key(key.chars().take(64).collect()));
            }
            if key == "team" {
                return Err(BadTags::Reserved(key.clone()));
            }
            if value.is_empty() || value.len() > LONGEST || value.chars().any(char::is_control) {
                return Err(BadTags::Value(key.clone()));
            }
        }
        Ok(Self(map))
    }
}

impl From<Tags> for BTreeMap<String, String> {
    fn from(tags: Tags) -> Self {
        tags.0
    }
}

/// As in a query or on a command line: `environment=prod,feature=search`.
impl FromStr for Tags {
    type Err = BadTags;

    fn from_str(text: &str) -> Result<Self, BadTags> {
        Self::read(text, |value| Ok(value.to_owned()))
    }
}

impl Tags {
    /// From the header `x-tollway-tags`: as [`Tags::from_str`] reads them, and `%` with two hexadecimal digits in a value is one
    /// byte of its UTF-8. Clients that send only ASCII in headers write `customer=M%C3%BCller`; a comma in a value is `%2C`.
    pub fn from_header(header: &[u8]) -> Result<Self, BadTags> {
        let text = std::str::from_utf8(header).map_err(|_| BadTags::NotUtf8)?;
        Self::read(text, |value| unescaped(value).ok_or(BadTags::NotUtf8))
    }

    fn read(text: &str, value_of: impl Fn(&str) -> Result<String, BadTags>) -> Result<Self, BadTags> {
        let mut map = BTreeMap::new();
        for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').ok_or_else(|| BadTags::Form(pair.chars().take(64).collect()))?;
            map.insert(key.trim().to_owned(), value_of(value.trim())?);
        }
        Self::try_from(map)
    }
}

/// The text with each `%XX` as the byte that it names; any other `%` is itself. `None`: the bytes are not UTF-8.
fn unescaped(text: &str) -> Option<String> {
    let hex = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let bytes = text.as_bytes();
    let (mut whole, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(byte) = bytes.get(at) {
        match (byte, hex(bytes.get(at + 1)), hex(bytes.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                whole.push((high * 16 + low) as u8);
                at += 3;
            }
            _ => {
                whole.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8(whole).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_becomes_tags() {
        let tags: Tags = "environment=prod, feature=search,sprint=42".parse().unwrap();
        assert_eq!((tags.environment(), tags.feature(), tags.get("sprint")), ("prod", "search", Some("42")));
        assert_eq!(Tags::default().feature(), UNATTRIBUTED);
    }

    #[test]
    fn a_header_takes_utf8_as_it_is_and_percent_encoded() {
        let customer = |header: &[u8]| Tags::from_header(header).map(|tags| tags.customer().map(str::to_owned));
        for header in ["customer=Müller", "customer=M%C3%BCller", "feature=x, customer=M%c3%bcller "] {
            assert_eq!(customer(header.as_bytes()), Ok(Some("Müller".to_owned())), "{header}");
        }
        assert_eq!(customer(b"customer=a%2Cb%3Dc"), Ok(Some("a,b=c".to_owned())));
        assert_eq!(customer(b"customer=100%, feature=50%2"), Ok(Some("100%".to_owned())), "no escape is no escape");
        assert_eq!(customer(b"customer=M\xfcller"), Err(BadTags::NotUtf8), "Latin-1");
        assert_eq!(customer(b"customer=%FF"), Err(BadTags::NotUtf8));
        assert_eq!(customer(b"customer=a%00b"), Err(BadTags::Value("customer".into())));
        let long = format!("customer={}", "ü".repeat(65));
        assert_eq!(customer(long.as_bytes()), Err(BadTags::Value("customer".into())), "130 bytes");
    }

    #[test]
    fn a_team_cannot_be_claimed_by_tag() {
        assert_eq!("team=other".parse::<Tags>(), Err(BadTags::Reserved("team".into())));
    }

    #[test]
    fn bad_tags_say_what_is_wrong() {
        assert!(matches!("novalue".parse::<Tags>(), Err(BadTags::Form(_))));
        assert!(matches!("Env=x".parse::<Tags>(), Err(BadTags::Key(_))));
        assert!(matches!("env=".parse::<Tags>(), Err(BadTags::Value(_))));
        let many: Vec<String> = (0..17).map(|n| format!("k{n}=v")).collect();
        assert_eq!(many.join(",").parse::<Tags>(), Err(BadTags::TooMany(17)));
    }
}
