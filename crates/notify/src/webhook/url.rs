//! Webhook URLs: each may hold a user, a password or a token, in any of its parts, so the database keeps them sealed.

use reqwest::Url;
use secrecy::SecretString;

use crate::seal::{self, Purpose};

/// As the database keeps it. A text that is sealed already stays as it is: a retry, or a schedule's job, has that of its original.
pub fn seal(pepper: &[u8], url: &str) -> Option<String> {
    if seal::is_sealed(url) { Some(url.to_owned()) } else { seal::seal(pepper, Purpose::WebhookUrl, url) }
}

/// Rows of the version before are not sealed. `None`: it was sealed under another pepper.
pub fn open(pepper: &[u8], kept: &str) -> Option<SecretString> {
    match seal::is_sealed(kept) {
        true => seal::open(pepper, Purpose::WebhookUrl, kept).map(Into::into),
        false => Some(kept.into()),
    }
}

/// What may be shown of a URL: its scheme and its host.
pub fn shown(url: &str) -> String {
    match url.parse::<Url>() {
        Ok(url) => {
            let port = url.port().map_or_else(String::new, |port| format!(":{port}"));
            format!("{}://{}{port}/…", url.scheme(), url.host_str().unwrap_or("…"))
        }
        Err(_) => "…".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn a_url_is_kept_sealed_and_read_as_it_was() {
        let url = "https://user:hunter2@hooks.example.com:8443/services/T0/B0/canary?token=canary#canary";
        let kept = seal(&[1; 32], url).unwrap();
        assert!(!kept.contains("canary") && !kept.contains("hunter2") && !kept.contains("hooks"), "{kept}");
        assert_eq!(open(&[1; 32], &kept).unwrap().expose_secret(), url);
        assert_eq!(seal(&[1; 32], &kept).unwrap(), kept, "it is not sealed twice");
        assert!(open(&[2; 32], &kept).is_none());
        assert_eq!(open(&[1; 32], "https://a.example/").unwrap().expose_secret(), "https://a.example/");
    }

    #[test]
    fn nothing_secret_is_shown_of_a_url() {
        for (url, expected) in [
            ("https://user:hunter2@hooks.example.com/a", "https://hooks.example.com/…"),
            ("https://hooks.slack.com/services/T0/B0/canary", "https://hooks.slack.com/…"),
            ("http://10.0.0.1:8080/?token=canary", "http://10.0.0.1:8080/…"),
            ("canary", "…"),
        ] {
            assert_eq!(shown(url), expected);
        }
    }
}
