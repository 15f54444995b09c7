//! What a line was meant to be that is no request: a file in another encoding, one JSON array, objects over several lines.

use crate::{bad::BadLine, json::Flaw};

/// Whether these first bytes of an upload are UTF-16 or UTF-32, with or without a byte order mark.
pub fn is_utf16(start: &[u8]) -> bool {
    match start {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => true,
        [0, byte, ..] | [byte, 0, ..] => byte.is_ascii_graphic() || byte.is_ascii_whitespace() || *byte == 0,
        _ => false,
    }
}

/// Why these bytes are no request line.
pub(crate) fn not_text(line: &[u8], valid: usize) -> BadLine {
    if is_utf16(line) {
        return BadLine::Utf16;
    }
    BadLine::Json(format!("it is not UTF-8 from column {} on", valid + 1))
}

/// Why a line is no request line of which JSON parsing stopped at a flaw, or which begins like an array.
pub(crate) fn not_json(line: &str, flaw: Flaw) -> BadLine {
    let text = line.trim_ascii();
    if is_utf16(line.as_bytes()) {
        return BadLine::Utf16;
    }
    if let Some(rest) = text.strip_prefix('[') {
        return array(rest);
    }
    // As an editor breaks an object over several lines: this one ends inside it, or begins there.
    let is_inner = text.starts_with('"') && matches!(text.as_bytes().last(), Some(b',' | b'{' | b'[' | b'"'));
    if flaw.is_cut && text.starts_with('{') && !text.ends_with('"') || is_inner || matches!(text, "}" | "},") {
        return BadLine::Unfinished(flaw);
    }
    BadLine::Json(flaw.to_string())
}

/// Of a line that begins with `[`: the whole file as an array, or one request as an array.
pub(crate) fn array(rest: &str) -> BadLine {
    match rest.trim_ascii_start().bytes().next() {
        Some(b'{' | b']') | None => BadLine::OneArray,
        Some(_) => BadLine::NotAnObject(crate::json::Kind::Array),
    }
}
