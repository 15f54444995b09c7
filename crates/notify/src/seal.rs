//! Secrets that the database keeps and nobody but a gateway can read: sealed under the pepper, which is not in the database.

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use sha2::Sha256;

/// What a sealed text begins with; the number is that of the form.
const MARK: &str = "sealed:1:";

/// What is sealed: a text of one kind, or of one owner, cannot be passed off as that of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    WebhookUrl,
    /// Of this team.
    WebhookSecret(i64),
}

impl Purpose {
    fn text(self) -> String {
        match self {
            Self::WebhookUrl => "webhook_url".to_owned(),
            Self::WebhookSecret(team_id) => format!("webhook_secret:{team_id}"),
        }
    }
}

/// `None` does not happen: the key has its length, and a text of some kilobytes is not too long.
fn key(pepper: &[u8]) -> Option<LessSafeKey> {
    // The pepper also makes keys' MACs: the label keeps the two apart.
    let mut mac = Hmac::<Sha256>::new_from_slice(pepper).ok()?;
    mac.update(b"seal:1");
    Some(LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &mac.finalize().into_bytes()).ok()?))
}

/// A text that only [`open`] with the same pepper and purpose reads.
pub fn seal(pepper: &[u8], purpose: Purpose, text: &str) -> Option<String> {
    let nonce: [u8; NONCE_LEN] = std::array::from_fn(|_| rand::random());
    let mut sealed = text.as_bytes().to_vec();
    let of = purpose.text();
    key(pepper)?
        .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(of.as_bytes()), &mut sealed)
        .ok()?;
    Some(format!("{MARK}{}", STANDARD_NO_PAD.encode([&nonce[..], &sealed[..]].concat())))
}

/// `None`: it was sealed under another pepper or for another purpose, or it is not whole.
pub fn open(pepper: &[u8], purpose: Purpose, sealed: &str) -> Option<String> {
    let mut bytes = STANDARD_NO_PAD.decode(sealed.strip_prefix(MARK)?).ok()?;
    let nonce: [u8; NONCE_LEN] = bytes.get(..NONCE_LEN)?.try_into().ok()?;
    let of = purpose.text();
    let text = key(pepper)?
        .open_within(Nonce::assume_unique_for_key(nonce), Aad::from(of.as_bytes()), &mut bytes, NONCE_LEN..)
        .ok()?;
    String::from_utf8(text.to_vec()).ok()
}

/// Whether a text is sealed; those that the version before wrote are not.
pub fn is_sealed(text: &str) -> bool {
    text.starts_with("sealed:")
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "https://user:hunter2@hooks.example.com/a?token=canary";

    #[test]
    fn what_is_sealed_is_read_with_its_pepper_and_for_its_purpose_alone() {
        let sealed = seal(&[1; 32], Purpose::WebhookUrl, URL).unwrap();
        assert!(is_sealed(&sealed) && !is_sealed(URL));
        assert!(!sealed.contains("hunter2") && !sealed.contains("example"));
        assert_eq!(open(&[1; 32], Purpose::WebhookUrl, &sealed).as_deref(), Some(URL));
        assert_eq!(open(&[2; 32], Purpose::WebhookUrl, &sealed), None);
        assert_eq!(open(&[1; 32], Purpose::WebhookSecret(1), &sealed), None);
        let of_one = seal(&[1; 32], Purpose::WebhookSecret(1), "whsec_a").unwrap();
        assert_eq!(open(&[1; 32], Purpose::WebhookSecret(2), &of_one), None);
        assert_ne!(sealed, seal(&[1; 32], Purpose::WebhookUrl, URL).unwrap(), "the same text is never sealed alike");
    }

    #[test]
    fn what_was_changed_is_not_read() {
        let sealed = seal(&[1; 32], Purpose::WebhookUrl, URL).unwrap();
        let cut = &sealed[..sealed.len() - 4];
        let other = sealed.replace("sealed:1:", "sealed:2:");
        for bad in [cut, &other, "sealed:1:", "sealed:1:AAAA", "sealed:1:%", URL] {
            assert_eq!(open(&[1; 32], Purpose::WebhookUrl, bad), None, "{bad}");
        }
    }
}
