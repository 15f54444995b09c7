//! Where a secret is, instead of the secret.

use std::{fmt, path::PathBuf};

use secrecy::{SecretBox, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretRef {
    /// `env:NAME`
    Env(String),
    /// `file:PATH`
    File(PathBuf),
}

/// Why a reference gave no secret. Safe to show.
#[derive(Debug, thiserror::Error)]
pub enum BadSecret {
    // What stands in its place may well be the secret, so it is not repeated.
    #[error("must be env:NAME or file:PATH, where the secret can be read, never the secret itself")]
    Literal,
    #[error("the environment variable {0} is not set")]
    NotSet(String),
    #[error("{path} cannot be read: {source}")]
    NotReadable { path: PathBuf, source: std::io::Error },
    #[error("{0} is empty")]
    Empty(SecretRef),
}

impl SecretRef {
    pub fn parse(text: &str) -> Result<Self, BadSecret> {
        match text.split_once(':') {
            Some(("env", name)) if !name.is_empty() => Ok(Self::Env(name.to_owned())),
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(path.into())),
            _ => Err(BadSecret::Literal),
        }
    }

    /// The secret, without white space around it: files end with a line end.
    pub fn read(&self) -> Result<SecretString, BadSecret> {
        let text = match self {
            Self::Env(name) => std::env::var(name).map_err(|_| BadSecret::NotSet(name.clone()))?,
            Self::File(path) => {
                std::fs::read_to_string(path).map_err(|source| BadSecret::NotReadable { path: path.clone(), source })?
            }
        };
        match text.trim() {
            "" => Err(BadSecret::Empty(self.clone())),
            secret => Ok(SecretString::from(secret)),
        }
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
        }
    }
}

impl<'de> Deserialize<'de> for SecretRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

impl Serialize for SecretRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// 64 hexadecimal digits as 32 bytes.
pub fn hex_32(text: &str) -> Option<SecretBox<[u8; 32]>> {
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut bytes = Box::new([0u8; 32]);
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |digit: u8| char::from(digit).to_digit(16);
        *byte = (digit(pair[0])? * 16 + digit(pair[1])?) as u8;
    }
    Some(SecretBox::new(bytes))
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn a_reference_reads_back_as_itself_and_a_literal_is_not_repeated() {
        for text in ["env:OPENAI_API_KEY", "file:/run/secrets/key"] {
            assert_eq!(SecretRef::parse(text).unwrap().to_string(), text);
        }
        for text in ["sk-canary", "postgres://u:sk-canary@h/db", "env:", "file:", ""] {
            let error = SecretRef::parse(text).unwrap_err();
            assert!(!error.to_string().contains("canary") && error.to_string().contains("env:NAME"), "{error}");
        }
    }

    #[test]
    fn a_pepper_is_64_hexadecimal_digits() {
        let pepper = hex_32(&"0fA9".repeat(16)).unwrap();
        assert_eq!(pepper.expose_secret()[..2], [0x0f, 0xa9]);
        for text in ["", "0f", &"0g".repeat(32), &"é".repeat(32)] {
            assert!(hex_32(text).is_none(), "{text}");
        }
    }
}
