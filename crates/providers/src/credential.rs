//! A provider's secret, read from where the configuration says it is. Neither the secret nor a mistyped reference (which
//! may well be the secret) is ever shown.

use secrecy::SecretString;

/// Why a reference gave no credential.
#[derive(Debug, thiserror::Error)]
pub enum BadCredential {
    #[error("credential must be env:NAME or file:PATH, never the secret itself")]
    NotAReference,
    #[error("credential: the environment variable {0} is not set")]
    NotSet(String),
    #[error("credential: {path} cannot be read: {source}")]
    NotReadable { path: String, source: std::io::Error },
    #[error("credential: {0} is empty")]
    Empty(String),
    #[error("credential: {0} holds characters that no HTTP header takes")]
    NotAHeader(String),
}

/// Reads `env:NAME` or `file:PATH`; white space around the secret is dropped, for files end with a line end.
pub(crate) fn read(reference: &str) -> Result<SecretString, BadCredential> {
    let text = if let Some(name) = reference.strip_prefix("env:") {
        std::env::var(name).map_err(|_| BadCredential::NotSet(name.to_owned()))?
    } else if let Some(path) = reference.strip_prefix("file:") {
        std::fs::read_to_string(path).map_err(|source| BadCredential::NotReadable { path: path.to_owned(), source })?
    } else {
        return Err(BadCredential::NotAReference);
    };
    let secret = text.trim();
    if secret.is_empty() {
        return Err(BadCredential::Empty(reference.to_owned()));
    }
    if !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(BadCredential::NotAHeader(reference.to_owned()));
    }
    Ok(SecretString::from(secret))
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;

    #[test]
    fn a_file_gives_its_secret_without_the_line_end() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "sk-secret\n").unwrap();
        let secret = read(&format!("file:{}", file.path().display())).unwrap();
        assert_eq!(secret.expose_secret(), "sk-secret");
    }

    #[test]
    fn an_environment_variable_gives_its_value() {
        // PATH is set wherever cargo runs.
        assert_eq!(read("env:PATH").unwrap().expose_secret(), std::env::var("PATH").unwrap());
        assert!(matches!(read("env:TOLLWAY_NO_SUCH_VARIABLE"), Err(BadCredential::NotSet(_))));
    }

    #[test]
    fn a_secret_in_place_of_a_reference_is_refused_and_not_repeated() {
        let error = read("sk-secret").unwrap_err();
        assert!(matches!(error, BadCredential::NotAReference));
        assert!(!format!("{error} {error:?}").contains("sk-secret"));
    }

    #[test]
    fn an_empty_or_broken_secret_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let reference = format!("file:{}", file.path().display());
        assert!(matches!(read(&reference), Err(BadCredential::Empty(_))));
        std::fs::write(file.path(), "sk-one\nsk-two").unwrap();
        let error = read(&reference).unwrap_err();
        assert!(matches!(error, BadCredential::NotAHeader(_)) && !error.to_string().contains("sk-"));
        assert!(matches!(read("file:/no/such/file"), Err(BadCredential::NotReadable { .. })));
    }
}
