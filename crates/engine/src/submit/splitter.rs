//! Lines out of bytes that come in pieces of any size: one buffer, no copy of a line.

use std::ops::Range;

use wire::BadLine;

/// The least room offered to a read. A task works on this much before it lets others run: under a millisecond.
const READ: usize = 64 << 10;
/// What some editors put before UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Lines end with `\n` or `\r\n`; the last one need not. Those of nothing but white space are counted and not given out.
#[derive(Debug)]
pub struct Splitter {
    buf: Vec<u8>,
    /// The first byte that was not given out, where it was before the last line, and up to where no line end is.
    start: usize,
    before: usize,
    scanned: usize,
    /// Bytes that hold data.
    filled: usize,
    ended: bool,
    lines: u64,
    blank: u64,
    /// The longest line that is taken, in bytes without its end.
    longest: usize,
}

impl Splitter {
    pub fn new(longest: usize) -> Self {
        let buf = vec![0; 2 * READ];
        Self { buf, start: 0, before: 0, scanned: 0, filled: 0, ended: false, lines: 0, blank: 0, longest }
    }

    fn too_long(&self, bytes: usize) -> BadLine {
        BadLine::TooLong { bytes, limit: self.longest }
    }

    /// Where to put what is read next; never empty. Take all lines out before.
    pub fn room(&mut self) -> &mut [u8] {
        if self.buf.len() - self.filled < READ && self.start > 0 {
            self.buf.copy_within(self.start..self.filled, 0);
            self.filled -= self.start;
            self.scanned -= self.start;
            (self.start, self.before) = (0, 0);
        }
        if self.buf.len() - self.filled < READ {
            // A long line; `pop` refuses it before this goes on for ever.
            self.buf.resize(self.buf.len() * 2, 0);
        }
        &mut self.buf[self.filled..]
    }

    /// So many bytes of the room now hold data; 0 means that there are no more.
    pub fn fill(&mut self, bytes: usize) {
        self.filled += bytes;
        self.ended = bytes == 0;
    }

    /// The next line without its end, and its number, from 1; `None` when it is not whole yet, or when all were given out.
    pub fn pop(&mut self) -> Option<(u64, Result<&[u8], BadLine>)> {
        let line = loop {
            match self.cut()? {
                Ok(line) if self.buf[line.clone()].trim_ascii().is_empty() => self.blank += 1,
                Ok(line) => break line,
                Err(error) => return Some((self.lines, Err(error))),
            }
        };
        Some((self.lines, Ok(&self.buf[line])))
    }

    /// The next line, blank or not, as a range of the buffer.
    fn cut(&mut self) -> Option<Result<Range<usize>, BadLine>> {
        let end = match memchr::memchr(b'\n', &self.buf[self.scanned..self.filled]) {
            Some(at) => self.scanned + at,
            None => {
                self.scanned = self.filled;
                let length = self.filled - self.start;
                // One more than the longest: it may end in \r.
                if length > self.longest + 1 {
                    self.lines += 1;
                    return Some(Err(self.too_long(length)));
                }
                if !self.ended || length == 0 {
                    return None;
                }
                self.filled
            }
        };
        self.before = self.start;
        self.start = (end + 1).min(self.filled);
        self.scanned = self.start;
        self.lines += 1;
        let mut line = self.before..end;
        if self.buf[line.clone()].ends_with(b"\r") {
            line.end -= 1;
        }
        if self.lines == 1 && self.buf[line.clone()].starts_with(BYTE_ORDER_MARK) {
            line.start += BYTE_ORDER_MARK.len();
        }
        Some(if line.len() > self.longest { Err(self.too_long(line.len())) } else { Ok(line) })
    }

    /// Gives the last line out again. Only right after it was given out.
    pub fn unpop(&mut self) {
        (self.start, self.scanned) = (self.before, self.before);
        self.lines -= 1;
    }

    /// Lines of nothing but white space so far.
    pub fn blank(&self) -> u64 {
        self.blank
    }

    /// Whether the end was seen.
    pub fn ended(&self) -> bool {
        self.ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LONGEST: usize = 1 << 20;

    /// All lines, fed in pieces of these sizes over and over.
    fn lines(input: &[u8], pieces: &[usize]) -> Vec<Result<Vec<u8>, BadLine>> {
        let mut splitter = Splitter::new(LONGEST);
        let mut found = Vec::new();
        let mut rest = input;
        let mut sizes = pieces.iter().copied().cycle();
        loop {
            let room = splitter.room();
            let take = sizes.next().unwrap_or(1).min(rest.len()).min(room.len());
            room[..take].copy_from_slice(&rest[..take]);
            rest = &rest[take..];
            splitter.fill(take);
            while let Some((_, line)) = splitter.pop() {
                let line = line.map(<[u8]>::to_vec);
                let failed = line.is_err();
                found.push(line);
                if failed {
                    return found;
                }
            }
            if take == 0 {
                return found;
            }
        }
    }

    fn expected(input: &[u8]) -> Vec<Result<Vec<u8>, BadLine>> {
        let mut parts: Vec<&[u8]> = input.split(|byte| *byte == b'\n').collect();
        if parts.last().is_some_and(|last| last.is_empty()) {
            parts.pop();
        }
        let text = parts.iter().map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        text.filter(|line| !line.trim_ascii().is_empty()).map(|line| Ok(line.to_vec())).collect()
    }

    proptest! {
        #[test]
        fn any_pieces_give_the_same_lines(
            input in proptest::collection::vec(prop_oneof![3 => Just(b'a'), 1 => Just(b'\n'), 1 => Just(b'\r')], 0..300),
            pieces in proptest::collection::vec(1usize..40, 1..8),
        ) {
            prop_assert_eq!(lines(&input, &pieces), expected(&input));
        }

        #[test]
        fn long_lines_pass_through_a_growing_buffer(
            lengths in proptest::collection::vec(0usize..200_000, 1..6),
            pieces in proptest::collection::vec(1usize..100_000, 1..4),
        ) {
            let input: Vec<u8> = lengths.iter().flat_map(|n| std::iter::repeat_n(b'x', *n).chain([b'\n'])).collect();
            prop_assert_eq!(lines(&input, &pieces), expected(&input));
        }
    }

    #[test]
    fn the_longest_line_fits_and_the_next_longer_does_not() {
        for end in ["", "\n", "\r\n"] {
            let fits = ["x".repeat(LONGEST).as_bytes(), end.as_bytes()].concat();
            assert_eq!(lines(&fits, &[100_000]).len(), 1, "{end:?}");
            assert!(lines(&fits, &[100_000])[0].is_ok(), "{end:?}");
            let over = ["x".repeat(LONGEST + 1).as_bytes(), end.as_bytes()].concat();
            assert_eq!(
                lines(&over, &[100_000]),
                [Err(BadLine::TooLong { bytes: LONGEST + 1, limit: LONGEST })],
                "{end:?}"
            );
        }
    }

    #[test]
    fn an_endless_line_is_refused_in_bounded_memory() {
        let mut splitter = Splitter::new(LONGEST);
        let mut read = 0;
        let refused = loop {
            let room = splitter.room().len();
            splitter.fill(room);
            read += room;
            assert!(read < 4 * LONGEST);
            if let Some((_, line)) = splitter.pop() {
                break line.is_err();
            }
        };
        assert!(refused);
    }

    #[test]
    fn blank_lines_count_and_a_line_can_be_given_back() {
        let mut splitter = Splitter::new(LONGEST);
        let input = b"\xef\xbb\xbfa\n \t\r\n\nb\n\n";
        splitter.room()[..input.len()].copy_from_slice(input);
        splitter.fill(input.len());
        assert_eq!(splitter.pop(), Some((1, Ok(&b"a"[..]))));
        assert_eq!(splitter.pop(), Some((4, Ok(&b"b"[..]))));
        splitter.unpop();
        assert_eq!(splitter.pop(), Some((4, Ok(&b"b"[..]))));
        assert_eq!(splitter.pop(), None);
    }
}
