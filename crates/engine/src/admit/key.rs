//! What a key looks like: `tw_<12 characters id>_<43 characters secret><6 characters CRC-32>`, all base62. The checksum lets
//! a typing error be told from an unknown key without asking anyone, and lets secret scanners recognise a key.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use rand::RngExt;
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

const PREFIX: &str = "tw_";
const ID_LEN: usize = 12;
/// 62⁴³ > 2²⁵⁶.
const SECRET_LEN: usize = 43;
const CRC_LEN: usize = 6;
const KEY_LEN: usize = PREFIX.len() + ID_LEN + 1 + SECRET_LEN + CRC_LEN;
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Never says what was given: it may be a key with one wrong letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    #[error("a key begins with tw_ and has {KEY_LEN} characters")]
    Form,
    #[error("its checksum does not fit; was it copied whole?")]
    Checksum,
}

/// A whole key, to be shown to its owner once. Prints as nothing.
pub struct PresentedKey(SecretString);

impl PresentedKey {
    /// The key itself; must go to its owner and nowhere else.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for PresentedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PresentedKey(…)")
    }
}

/// A new key and what is stored of it.
#[derive(Debug)]
pub struct Minted {
    pub key: PresentedKey,
    /// 12 characters.
    pub key_id: String,
    /// HMAC-SHA-256 under the pepper.
    pub mac: [u8; 32],
}

/// A new key from the system's randomness.
pub fn mint(pepper: &[u8; 32]) -> Minted {
    let mut rng = rand::rng();
    let mut pick = || char::from(BASE62[rng.random_range(0..BASE62.len())]);
    let mut text = String::with_capacity(KEY_LEN);
    text.push_str(PREFIX);
    text.extend((0..ID_LEN).map(|_| pick()));
    text.push('_');
    text.extend((0..SECRET_LEN).map(|_| pick()));
    let crc = checksum(text.as_bytes());
    text.extend(crc.map(char::from));
    let key_id = text[PREFIX.len()..PREFIX.len() + ID_LEN].to_owned();
    let mac = mac_of(pepper, text.as_bytes());
    Minted { key: PresentedKey(text.into()), key_id, mac }
}

/// A well-formed key whose checksum fits. Nobody knows yet whether it was ever minted.
#[derive(Clone, Copy)]
pub struct ParsedKey<'a>(&'a [u8; KEY_LEN]);

impl<'a> ParsedKey<'a> {
    pub fn parse(presented: &'a str) -> Result<Self, BadKey> {
        let bytes: &[u8; KEY_LEN] = presented.as_bytes().try_into().map_err(|_| BadKey::Form)?;
        let (body, crc) = bytes.split_at(KEY_LEN - CRC_LEN);
        let separator = PREFIX.len() + ID_LEN;
        let base62 = |part: &[u8]| part.iter().all(u8::is_ascii_alphanumeric);
        let has_form = body.starts_with(PREFIX.as_bytes())
            && body[separator] == b'_'
            && base62(&body[PREFIX.len()..separator])
            && base62(&body[separator + 1..]);
        if !has_form {
            return Err(BadKey::Form);
        }
        if crc != checksum(body) {
            return Err(BadKey::Checksum);
        }
        Ok(Self(bytes))
    }

    pub fn id(&self) -> [u8; ID_LEN] {
        let mut id = [0; ID_LEN];
        id.copy_from_slice(&self.0[PREFIX.len()..PREFIX.len() + ID_LEN]);
        id
    }

    pub fn mac(&self, pepper: &[u8; 32]) -> [u8; 32] {
        mac_of(pepper, self.0)
    }
}

/// Over the whole key, so that a MAC belongs to one id.
fn mac_of(pepper: &[u8; 32], key: &[u8]) -> [u8; 32] {
    // The pepper also makes webhook secrets: the label keeps the two apart.
    let mut block = [0; 64];
    block[..pepper.len()].copy_from_slice(pepper);
    Hmac::<Sha256>::new(&block.into()).chain_update(b"api-key\0").chain_update(key).finalize().into_bytes().into()
}

/// CRC-32 in base62, the highest digit first. 62⁶ > 2³².
fn checksum(text: &[u8]) -> [u8; CRC_LEN] {
    let mut rest = crc32fast::hash(text) as usize;
    let mut digits = [0; CRC_LEN];
    for digit in digits.iter_mut().rev() {
        *digit = BASE62[rest % 62];
        rest /= 62;
    }
    digits
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PEPPER: [u8; 32] = [7; 32];

    #[test]
    fn a_minted_key_has_the_form_and_its_own_mac() {
        let minted = mint(&PEPPER);
        let text = minted.key.expose();
        assert_eq!((text.len(), &text[..3], &text[15..16]), (65, "tw_", "_"));
        let parsed = ParsedKey::parse(text).unwrap();
        assert_eq!((parsed.id().as_slice(), parsed.mac(&PEPPER)), (minted.key_id.as_bytes(), minted.mac));
        assert_ne!(parsed.mac(&[8; 32]), minted.mac, "another pepper is another MAC");
        assert_ne!(mint(&PEPPER).key.expose(), text);
    }

    /// The figure comes from Python: `hmac.new(bytes([7]*32), b"api-key\0" + key, "sha256")`, so that both sides of our own
    /// code cannot be wrong together.
    #[test]
    fn mac_and_checksum_are_what_other_tools_compute() {
        let key = "tw_0123456789ab_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg4Ce1Wz";
        let parsed = ParsedKey::parse(key).unwrap();
        let hex: String = parsed.mac(&PEPPER).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "f0c7e6b0525af2aced898c68a2f7c4a364b82af7a165a75fc5fdbf91f763d174");
    }

    #[test]
    fn a_key_prints_as_nothing() {
        let minted = mint(&PEPPER);
        let secret = &minted.key.expose()[16..];
        assert!(!format!("{minted:?}").contains(secret));
    }

    proptest! {
        #[test]
        fn one_wrong_letter_is_found_before_any_look_up(place in 0..KEY_LEN, letter in "[0-9A-Za-z_]") {
            let minted = mint(&PEPPER);
            let mut text = minted.key.expose().to_owned();
            text.replace_range(place..=place, &letter);
            prop_assume!(text != minted.key.expose());
            prop_assert!(ParsedKey::parse(&text).is_err());
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,80}") {
            prop_assert!(ParsedKey::parse(&text).is_err());
        }
    }
}
