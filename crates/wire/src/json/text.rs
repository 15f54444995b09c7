//! Strings: where they end, and what they say.

use std::borrow::Cow;

/// A text this long is searched by vector instructions; shorter ones are not worth the call.
const LONG: usize = 64;

/// A string between its quotes, as it is written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Text<'a> {
    pub raw: &'a str,
    pub is_escaped: bool,
}

impl<'a> Text<'a> {
    /// What the string says; `None`: its escapes form no Unicode text.
    pub fn read(self) -> Option<Cow<'a, str>> {
        if !self.is_escaped {
            return Some(Cow::Borrowed(self.raw));
        }
        serde_json::from_str(&format!("\"{}\"", self.raw)).ok().map(Cow::Owned)
    }

    /// A member's name. One that is no Unicode text is none that anybody looks for.
    pub fn name(self) -> Cow<'a, str> {
        self.read().unwrap_or(Cow::Borrowed(self.raw))
    }
}

/// The first place from `at` on that holds a quote, a backslash or a control character; the end when there is none.
pub(super) fn plain(bytes: &[u8], mut at: usize) -> usize {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let near = bytes.len().min(at + LONG);
    while at + 8 <= near {
        let Ok(eight) = <[u8; 8]>::try_from(&bytes[at..at + 8]) else { break };
        let word = u64::from_le_bytes(eight);
        let (quote, slash) = (word ^ (EACH * 0x22), word ^ (EACH * 0x5c));
        let zero = |word: u64| word.wrapping_sub(EACH) & !word;
        let found = (zero(quote) | zero(slash) | (word.wrapping_sub(EACH * 0x20) & !word)) & (EACH * 0x80);
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    if near < bytes.len() {
        let end = memchr::memchr2(b'"', b'\\', &bytes[at..]).map_or(bytes.len(), |n| at + n);
        let has_control = bytes[at..end].iter().fold(false, |any, byte| any | (*byte < 0x20));
        if !has_control {
            return end;
        }
    }
    let special = |byte: &u8| matches!(byte, b'"' | b'\\') || *byte < 0x20;
    bytes[at..].iter().position(special).map_or(bytes.len(), |n| at + n)
}
