//! Server-sent events, split out of bytes as they arrive. Each event keeps its bytes as they came, so that it can be passed
//! on unchanged.

use bytes::{Buf, Bytes, BytesMut};
use memchr::memchr2;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    /// As it came, up to and with the blank line that ends it.
    pub raw: Bytes,
    /// The `event:` field.
    pub name: Option<Bytes>,
    /// The `data:` fields, joined by line ends. `None` for a comment, such as a keep-alive.
    pub data: Option<Bytes>,
}

impl Event {
    /// A comment keeps a connection open. An event without data that is none is dropped, as the standard has it.
    pub fn is_comment(&self) -> bool {
        self.data.is_none() && self.name.is_none() && self.raw.starts_with(b":")
    }
}

/// An event longer than is taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

pub(crate) struct Events {
    /// The longest event taken, in bytes.
    longest: usize,
    buffer: BytesMut,
    /// Where the current line starts, and up to where it holds no line end.
    line: usize,
    seen: usize,
}

impl Events {
    pub fn new(longest: usize) -> Self {
        Self { longest, buffer: BytesMut::new(), line: 0, seen: 0 }
    }

    /// What has arrived of the event that is not whole, or too long.
    pub fn unread(&self) -> &[u8] {
        &self.buffer
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next event that is whole.
    pub fn next(&mut self) -> Result<Option<Event>, TooLong> {
        while let Some((end, next)) = self.line_end() {
            let blank = end == self.line;
            self.line = next;
            self.seen = next;
            if !blank {
                continue;
            }
            if next > self.longest {
                return Err(TooLong);
            }
            let raw = self.buffer.split_to(next).freeze();
            (self.line, self.seen) = (0, 0);
            // Blank lines between events belong to none.
            if end > 0 {
                return Ok(Some(event(raw)));
            }
        }
        if self.buffer.len() > self.longest { Err(TooLong) } else { Ok(None) }
    }

    /// What stands after the last whole event, when the bytes have ended: some servers leave out the last blank line.
    pub fn rest(&mut self) -> Option<Event> {
        let raw = self.buffer.split().freeze();
        (self.line, self.seen) = (0, 0);
        (!raw.trim_ascii().is_empty()).then(|| event(raw))
    }

    /// The end of the current line and the start of the next. A carriage return at the end of what has arrived may be half
    /// of a line end: it waits.
    fn line_end(&mut self) -> Option<(usize, usize)> {
        let Some(at) = memchr2(b'\n', b'\r', &self.buffer[self.seen..]).map(|at| at + self.seen) else {
            self.seen = self.buffer.len();
            return None;
        };
        if self.buffer[at] == b'\n' {
            return Some((at, at + 1));
        }
        match self.buffer.get(at + 1) {
            Some(b'\n') => Some((at, at + 2)),
            Some(_) => Some((at, at + 1)),
            None => {
                self.seen = at;
                None
            }
        }
    }
}

fn event(raw: Bytes) -> Event {
    let (mut name, mut data) = (None, None::<Bytes>);
    let mut rest = raw.clone();
    while !rest.is_empty() {
        let end = memchr2(b'\n', b'\r', &rest).unwrap_or(rest.len());
        let line = rest.split_to(end);
        rest.advance(usize::from(!rest.is_empty()));
        if let Some(value) = field(&line, b"data") {
            data = Some(match data {
                None => value,
                Some(before) => [&before[..], b"\n", &value[..]].concat().into(),
            });
        } else if let Some(value) = field(&line, b"event") {
            name = Some(value);
        }
    }
    Event { raw, name, data }
}

/// The value of `line` if it is the field `name`; one space after the colon does not count.
fn field(line: &Bytes, name: &[u8]) -> Option<Bytes> {
    let bom = if line.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
    let value = line[bom..].strip_prefix(name)?;
    match value {
        [] => Some(Bytes::new()),
        [b':', b' ', text @ ..] | [b':', text @ ..] => Some(line.slice_ref(text)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(chunks: &[&[u8]]) -> (Vec<Event>, Option<TooLong>) {
        let mut events = Events::new(1 << 20);
        let mut found = Vec::new();
        for chunk in chunks {
            events.push(chunk);
            loop {
                match events.next() {
                    Ok(Some(event)) => found.push(event),
                    Ok(None) => break,
                    Err(too_long) => return (found, Some(too_long)),
                }
            }
        }
        found.extend(events.rest());
        (found, None)
    }

    fn check(text: &str, expected: &[(Option<&str>, Option<&str>)]) {
        let (events, too_long) = all(&[text.as_bytes()]);
        let texts: Vec<_> = events.iter().map(|e| (e.name.clone(), e.data.clone())).collect();
        let bytes = |text: &Option<&str>| text.map(|text| Bytes::copy_from_slice(text.as_bytes()));
        let expected: Vec<_> = expected.iter().map(|(name, data)| (bytes(name), bytes(data))).collect();
        assert_eq!((texts, too_long), (expected, None), "{text:?}");
    }

    #[test]
    fn events_are_read_in_all_their_forms() {
        check("data: {\"a\":1}\n\ndata:[DONE]\n\n", &[(None, Some("{\"a\":1}")), (None, Some("[DONE]"))]);
        check("\n\nevent: error\r\ndata:  x\r\n\r\n", &[(Some("error"), Some(" x"))]);
        check("data: a\rdata: b\r\r", &[(None, Some("a\nb"))]);
        check(": keep-alive\n\ndata\n\n", &[(None, None), (None, Some(""))]);
        check("id: 1\nretry: 5\ndatax: y\n\n", &[(None, None)]);
        check("data: [DONE]", &[(None, Some("[DONE]"))]);
        check("\u{feff}data: a\n\n\n \n", &[(None, Some("a"))]);
    }

    #[test]
    fn bytes_are_kept_as_they_came() {
        let text: &[u8] = b"event: x\r\ndata: 1\r\n\r\n: c\n\n";
        let (events, _) = all(&[text]);
        let raw: Vec<u8> = events.iter().flat_map(|event| event.raw.to_vec()).collect();
        assert_eq!(raw, text);
    }

    #[test]
    fn an_endless_event_is_refused() {
        let line = [b'x'; 1000];
        let mut events = Events::new(1 << 20);
        let refused_after = (1..).find(|_| {
            events.push(&line);
            events.next().is_err()
        });
        assert_eq!(refused_after, Some((1 << 20) / 1000 + 1));
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_events(
            parts in proptest::collection::vec(prop_oneof![
                Just("data: "), Just("data:"), Just("event: error"), Just(": c"), Just("\n"), Just("\r"), Just("\r\n"),
                Just("\n\n"), Just("{\"a\":\"é\"}"), Just("[DONE]"), Just(" "), Just("id: 4"),
            ], 0..40),
            cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let text = parts.concat().into_bytes();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|ends| &text[ends[0]..ends[1]]).collect();
            prop_assert_eq!(all(&chunks), all(&[&text[..]]));
        }
    }
}
