//! Embedding vectors outside JSON: packed 32-bit floats, and the way back into the caller's JSON.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;

/// `count` vectors of `dims` floats each, in the order of the request's inputs.
///
/// A provider that writes more digits than an f32 holds is rounded to the nearest f32 (half to even): that is the precision
/// embedding models compute in, and the one in which OpenAI's own base64 form transports them.
#[derive(Clone, PartialEq, Eq)]
pub struct Vectors {
    pub dims: u32,
    pub count: u32,
    /// Row after row of little-endian f32: `count × dims × 4` bytes. All are finite.
    pub data: Bytes,
}

impl Vectors {
    /// The bytes of vector `row`.
    pub fn row(&self, row: u32) -> Option<&[u8]> {
        let size = self.dims as usize * 4;
        let start = row as usize * size;
        self.data.get(start..start.checked_add(size)?)
    }
}

/// Its size only: the floats say nothing to a reader.
impl std::fmt::Debug for Vectors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Vectors({} × {})", self.count, self.dims)
    }
}

/// Appends to `out` the answer that `envelope` was taken from, in OpenAI's shape: each vector as an array of numbers (the
/// shortest text that reads back as the same f32), or in base64 of its little-endian bytes.
pub fn render_embeddings(envelope: &[u8], vectors: &Vectors, as_base64: bool, out: &mut Vec<u8>) {
    let per_float = if as_base64 { 6 } else { 13 };
    out.reserve(envelope.len() + vectors.data.len() / 4 * per_float);
    replace_rows(envelope, out, |row, out| match vectors.row(row) {
        Some(floats) if as_base64 => push_base64(floats, out),
        Some(floats) => push_array(floats, out),
        None => out.extend_from_slice(b"null"),
    });
}

/// Copies `envelope` with every `"embedding":<row>` given its new value by `write`.
pub(crate) fn replace_rows(envelope: &[u8], out: &mut Vec<u8>, mut write: impl FnMut(u32, &mut Vec<u8>)) {
    let mut copied = 0;
    for start in values(envelope) {
        let digits = envelope[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let Some(row) = std::str::from_utf8(&envelope[start..start + digits]).ok().and_then(|text| text.parse().ok())
        else {
            continue;
        };
        out.extend_from_slice(&envelope[copied..start]);
        write(row, out);
        copied = start + digits;
    }
    out.extend_from_slice(&envelope[copied..]);
}

/// Where the values of all keys `embedding` begin. The search needs no parser: inside a JSON string a quote is escaped, so
/// these bytes with a colon after them are a key, unless what opens them is itself an escaped quote.
pub(crate) fn values(json: &[u8]) -> impl Iterator<Item = usize> + '_ {
    const KEY: &[u8] = b"\"embedding\"";
    memchr::memmem::find_iter(json, KEY).filter_map(move |at| {
        if at > 0 && json[at - 1] == b'\\' {
            return None;
        }
        let colon = after_space(json, at + KEY.len());
        (json.get(colon) == Some(&b':')).then(|| after_space(json, colon + 1))
    })
}

fn after_space(json: &[u8], from: usize) -> usize {
    from + json[from..].iter().take_while(|byte| matches!(byte, b' ' | b'\n' | b'\r' | b'\t')).count()
}

fn push_array(floats: &[u8], out: &mut Vec<u8>) {
    out.push(b'[');
    for (at, bytes) in floats.chunks_exact(4).enumerate() {
        if at > 0 {
            out.push(b',');
        }
        let float = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        // Writing to a Vec cannot fail, and the floats are finite.
        let _ = serde_json::to_writer(&mut *out, &float);
    }
    out.push(b']');
}

fn push_base64(floats: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let start = out.len();
    out.resize(start + floats.len().div_ceil(3) * 4, 0);
    let written = STANDARD.encode_slice(floats, &mut out[start..]).unwrap_or(0);
    out.truncate(start + written);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vectors() -> Vectors {
        let floats: [f32; 4] = [0.1, -2.0, 1.0e-20, -0.0];
        Vectors { dims: 2, count: 2, data: floats.iter().flat_map(|f| f.to_le_bytes()).collect() }
    }

    fn check(envelope: &str, as_base64: bool, expected: &str) {
        let mut out = Vec::new();
        render_embeddings(envelope.as_bytes(), &vectors(), as_base64, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn rows_come_back_in_both_forms() {
        let envelope = r#"{"data":[{"object":"embedding","index":1,"embedding":1},{"index":0,"embedding" : 0}]}"#;
        check(
            envelope,
            false,
            r#"{"data":[{"object":"embedding","index":1,"embedding":[1e-20,-0.0]},{"index":0,"embedding" : [0.1,-2.0]}]}"#,
        );
        check(
            envelope,
            true,
            r#"{"data":[{"object":"embedding","index":1,"embedding":"COU8HgAAAIA="},{"index":0,"embedding" : "zczMPQAAAMA="}]}"#,
        );
    }

    #[test]
    fn text_that_looks_like_a_key_is_left_alone() {
        let envelope = r#"{"note":"\"embedding\":0","\"embedding":0,"model":"embedding"}"#;
        check(envelope, false, envelope);
    }

    #[test]
    fn a_row_that_is_not_there_is_null() {
        check(r#"{"embedding":7}"#, false, r#"{"embedding":null}"#);
        check(r#"{"embedding":99999999999}"#, false, r#"{"embedding":99999999999}"#);
    }
}
