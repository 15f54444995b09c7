//! The messages of a chat: whether there are any, and the images, sounds and files in them.

use super::BodyScan;
use crate::{
    bad::BadCall,
    json::{Flaw, Kind, Scanner, Text},
    media::{Media, Piece},
};

const ALLOWED: &str = "an array of at least one message";

pub(super) fn messages(scanner: &mut Scanner<'_>, found: &mut BodyScan<'_>) -> Result<(), Flaw> {
    let kind = scanner.kind()?;
    if kind != Kind::Array {
        scanner.value()?;
        found.fault(BadCall::kind("messages", kind, ALLOWED));
        found.has_prompt |= kind != Kind::Null;
        return Ok(());
    }
    found.has_prompt = true;
    let count = scanner.elements(|scanner| {
        let kind = scanner.kind()?;
        if kind != Kind::Object {
            found.fault(BadCall::kind("an entry of messages", kind, "an object"));
        }
        scanner.walk(&mut |scanner, key| media(scanner, key, found))
    })?;
    if count == 0 {
        found.fault(BadCall::Value { name: "messages", got: "empty".to_owned(), allowed: ALLOWED });
    }
    Ok(())
}

/// Takes the value of a member that carries media; other members are left to the walk.
fn media(scanner: &mut Scanner<'_>, key: Text<'_>, found: &mut BodyScan<'_>) -> Result<bool, Flaw> {
    let Some(media) = Media::of(&key.name()) else { return Ok(false) };
    let mut piece = Piece::default();
    match scanner.kind()? {
        // Some servers take the address itself.
        Kind::Text => piece.payload = payload(scanner.string()?, false),
        Kind::Object => {
            scanner.members(|scanner, key| {
                if scanner.kind()? != Kind::Text {
                    scanner.value()?;
                    return Ok(());
                }
                let value = scanner.string()?;
                match &*key.name() {
                    "url" => piece.payload += payload(value, false),
                    "data" | "file_data" => piece.payload += payload(value, true),
                    "detail" => piece.is_low = value.raw == "low",
                    "format" => piece.is_wave = matches!(value.raw, "wav" | "pcm16"),
                    _ => {}
                }
                Ok(())
            })?;
        }
        _ => return Ok(false),
    }
    found.not_text += piece.payload;
    media.add(piece, &mut found.input);
    Ok(true)
}

/// Bytes of base64 in a data URL, or in a text that may be nothing else; 0: it is an address.
fn payload(value: Text<'_>, is_data: bool) -> usize {
    const START: usize = 256;
    let head = &value.raw.as_bytes()[..value.raw.len().min(START)];
    let is_url = head.get(..5).is_some_and(|start| start.eq_ignore_ascii_case(b"data:"));
    match memchr::memmem::find(head, b";base64,") {
        Some(at) if is_url => value.raw.len() - at - ";base64,".len(),
        _ if is_data => value.raw.len(),
        _ => 0,
    }
}
