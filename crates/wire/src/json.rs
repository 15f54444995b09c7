//! One pass over JSON text, with the places of what is read. A value that nobody asks for is checked and passed over.

mod text;

use std::{fmt, ops::Range};

pub(crate) use text::Text;
use text::plain;

/// Levels of arrays and objects; `serde_json` reads values as deep.
const MAX_DEPTH: u32 = 128;

/// Where the text stops being JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} at column {}", .at + 1)]
pub struct Flaw {
    pub what: &'static str,
    /// The byte, counted from 0.
    pub at: usize,
    /// The text ended too early: what there is may be the beginning of JSON.
    pub is_cut: bool,
}

impl Flaw {
    /// The same flaw in a text that begins `bytes` earlier.
    pub(crate) fn shifted(self, bytes: usize) -> Self {
        Self { at: self.at + bytes, ..self }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Object,
    Array,
    Text,
    Number,
    Bool,
    Null,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Object => "an object",
            Self::Array => "an array",
            Self::Text => "a string",
            Self::Number => "a number",
            Self::Bool => "a boolean",
            Self::Null => "null",
        })
    }
}

/// A value as it stands in the text.
#[derive(Debug, Clone)]
pub(crate) struct Raw<'a> {
    pub kind: Kind,
    pub text: &'a str,
    pub span: Range<usize>,
}

#[derive(Debug)]
pub(crate) struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    pub fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    pub fn at(&self) -> usize {
        self.at
    }

    /// Goes on at a place where a value was read by other means.
    pub fn jump(&mut self, at: usize) {
        self.at = at;
    }

    fn bytes(&self) -> &'a [u8] {
        self.text.as_bytes()
    }

    pub fn flaw(&self, what: &'static str) -> Flaw {
        let is_cut = self.at >= self.text.len();
        Flaw { what: if is_cut { "the text ends too early" } else { what }, at: self.at, is_cut }
    }

    /// The first byte of the next value.
    pub fn peek(&mut self) -> Result<u8, Flaw> {
        self.space();
        self.bytes().get(self.at).copied().ok_or_else(|| self.flaw("expected a value"))
    }

    /// Nothing but white space is left.
    pub fn finish(&mut self) -> Result<(), Flaw> {
        self.space();
        if self.at == self.text.len() { Ok(()) } else { Err(self.flaw("something follows the value")) }
    }

    /// The kind of the next value, by its first byte.
    pub fn kind(&mut self) -> Result<Kind, Flaw> {
        match self.peek()? {
            b'{' => Ok(Kind::Object),
            b'[' => Ok(Kind::Array),
            b'"' => Ok(Kind::Text),
            b'-' | b'0'..=b'9' => Ok(Kind::Number),
            b't' | b'f' => Ok(Kind::Bool),
            b'n' => Ok(Kind::Null),
            _ => Err(self.flaw("expected a value")),
        }
    }

    /// The next value, whatever it is.
    pub fn value(&mut self) -> Result<Raw<'a>, Flaw> {
        let kind = self.kind()?;
        let start = self.at;
        self.walk(&mut |_, _| Ok(false))?;
        Ok(Raw { kind, text: &self.text[start..self.at], span: start..self.at })
    }

    /// The members of the object that comes next. `each` takes the value of each.
    pub fn members(&mut self, mut each: impl FnMut(&mut Self, Text<'a>) -> Result<(), Flaw>) -> Result<usize, Flaw> {
        self.expect(b'{', "expected an object")?;
        if self.is_next(b'}') {
            return Ok(0);
        }
        let mut count = 0;
        loop {
            let key = self.key()?;
            each(self, key)?;
            count += 1;
            if self.is_last(b'}')? {
                return Ok(count);
            }
        }
    }

    /// The elements of the array that comes next. `each` takes each.
    pub fn elements(&mut self, mut each: impl FnMut(&mut Self) -> Result<(), Flaw>) -> Result<usize, Flaw> {
        self.expect(b'[', "expected an array")?;
        if self.is_next(b']') {
            return Ok(0);
        }
        let mut count = 0;
        loop {
            each(self)?;
            count += 1;
            if self.is_last(b']')? {
                return Ok(count);
            }
        }
    }

    /// Passes over the next value. `on_key` is shown each member inside, at any depth; true: it took the member's value.
    pub fn walk(&mut self, on_key: &mut impl FnMut(&mut Self, Text<'a>) -> Result<bool, Flaw>) -> Result<(), Flaw> {
        // One bit a level, so that no text makes this recurse or allocate: set where an object is open.
        let (mut open, mut depth) = (0u128, 0);
        'value: loop {
            match self.peek()? {
                b'"' => {
                    self.string()?;
                }
                b'-' | b'0'..=b'9' => {
                    self.number()?;
                }
                b't' => self.word("true")?,
                b'f' => self.word("false")?,
                b'n' => self.word("null")?,
                b'{' => {
                    self.at += 1;
                    if !self.is_next(b'}') {
                        (open, depth) = (open << 1 | 1, self.deeper(depth)?);
                        let key = self.key()?;
                        if !on_key(self, key)? {
                            continue;
                        }
                    }
                }
                b'[' => {
                    self.at += 1;
                    if !self.is_next(b']') {
                        (open, depth) = (open << 1, self.deeper(depth)?);
                        continue;
                    }
                }
                _ => return Err(self.flaw("expected a value")),
            }
            loop {
                if depth == 0 {
                    return Ok(());
                }
                let in_object = open & 1 == 1;
                if self.is_last(if in_object { b'}' } else { b']' })? {
                    (open, depth) = (open >> 1, depth - 1);
                } else if !in_object {
                    continue 'value;
                } else {
                    let key = self.key()?;
                    if !on_key(self, key)? {
                        continue 'value;
                    }
                }
            }
        }
    }

    fn deeper(&self, depth: u32) -> Result<u32, Flaw> {
        if depth + 1 >= MAX_DEPTH { Err(self.flaw("more than 127 levels of nesting")) } else { Ok(depth + 1) }
    }

    /// The string that comes next.
    pub fn string(&mut self) -> Result<Text<'a>, Flaw> {
        self.expect(b'"', "expected a string")?;
        let (bytes, start) = (self.bytes(), self.at);
        let mut is_escaped = false;
        loop {
            self.at = plain(bytes, self.at);
            match bytes.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Text { raw: &self.text[start..self.at - 1], is_escaped });
                }
                Some(b'\\') => {
                    is_escaped = true;
                    self.escape()?;
                }
                _ => return Err(self.flaw("a control character in a string, which must be escaped")),
            }
        }
    }

    fn escape(&mut self) -> Result<(), Flaw> {
        let rest = &self.bytes()[self.at + 1..];
        let length = match rest.first() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 1,
            Some(b'u') if rest.len() >= 5 && rest[1..5].iter().all(u8::is_ascii_hexdigit) => 5,
            Some(b'u') if rest.len() >= 5 => return Err(self.flaw("an invalid escape")),
            Some(b'u') | None => {
                self.at = self.text.len();
                return Err(self.flaw("an invalid escape"));
            }
            Some(_) => return Err(self.flaw("an invalid escape")),
        };
        self.at += 1 + length;
        Ok(())
    }

    /// The number that comes next.
    pub fn number(&mut self) -> Result<&'a str, Flaw> {
        self.space();
        let start = self.at;
        self.at += usize::from(self.bytes().get(self.at) == Some(&b'-'));
        match self.bytes().get(self.at) {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits(),
            _ => return Err(self.flaw("an invalid number")),
        }
        if self.bytes().get(self.at) == Some(&b'.') {
            self.at += 1;
            self.some_digits()?;
        }
        if matches!(self.bytes().get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.bytes().get(self.at), Some(b'+' | b'-')));
            self.some_digits()?;
        }
        if self.bytes().get(self.at).is_some_and(u8::is_ascii_digit) {
            return Err(self.flaw("an invalid number"));
        }
        Ok(&self.text[start..self.at])
    }

    fn digits(&mut self) {
        while self.bytes().get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
    }

    fn some_digits(&mut self) -> Result<(), Flaw> {
        let start = self.at;
        self.digits();
        if self.at > start { Ok(()) } else { Err(self.flaw("an invalid number")) }
    }

    fn word(&mut self, word: &str) -> Result<(), Flaw> {
        let rest = &self.bytes()[self.at..];
        if rest.starts_with(word.as_bytes()) {
            self.at += word.len();
            return Ok(());
        }
        if word.as_bytes().starts_with(rest) {
            self.at = self.text.len();
        }
        Err(self.flaw("expected a value"))
    }

    fn key(&mut self) -> Result<Text<'a>, Flaw> {
        if self.peek()? != b'"' {
            return Err(self.flaw("expected a member's name in quotes"));
        }
        let key = self.string()?;
        self.expect(b':', "expected `:`")?;
        Ok(key)
    }

    fn expect(&mut self, byte: u8, what: &'static str) -> Result<(), Flaw> {
        if self.is_next(byte) { Ok(()) } else { Err(self.flaw(what)) }
    }

    /// After a value: whether `close` or a comma comes, which is taken.
    fn is_last(&mut self, close: u8) -> Result<bool, Flaw> {
        if self.is_next(b',') {
            return Ok(false);
        }
        let what = if close == b'}' { "expected `,` or `}`" } else { "expected `,` or `]`" };
        self.expect(close, what).map(|()| true)
    }

    fn is_next(&mut self, byte: u8) -> bool {
        self.space();
        let is_next = self.bytes().get(self.at) == Some(&byte);
        self.at += usize::from(is_next);
        is_next
    }

    fn space(&mut self) {
        while matches!(self.bytes().get(self.at), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }
}

#[cfg(test)]
mod tests;
