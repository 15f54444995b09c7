//! Where the command line's gateway is, and the key for it: the environment, else a file that only its owner can read.
//! `tollway dev` writes one.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

pub const DEFAULT_URL: &str = "http://127.0.0.1:8787";
pub const MADE_BY_DEV: &str = "tollway dev";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    pub url: String,
    pub api_key: Secret,
    /// The configuration of a gateway on this machine, for commands that work on its database or its lake.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<PathBuf>,
    /// Who wrote the file: `dev` replaces only what is its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_by: Option<String>,
}

/// Text that is never printed by accident.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The gateway that the command line talks to.
#[derive(Debug)]
pub struct Gateway {
    pub url: String,
    /// `None`: neither the environment nor the profile has one for this URL.
    pub key: Option<SecretString>,
}

impl Profile {
    pub fn read(path: &Path) -> anyhow::Result<Option<Self>> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        if path.metadata()?.permissions().mode() & 0o077 != 0 {
            bail!("{0} holds an API key and can be read by others; run: chmod 600 {0}", path.display());
        }
        let profile = toml::from_str(&text)
            .map_err(|error| anyhow::anyhow!("{} is not a profile: {}", path.display(), error.message()))?;
        Ok(Some(profile))
    }

    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        }
        let text = toml::to_string(self)?;
        crate::paths::write_private(path, &text).with_context(|| format!("cannot write {}", path.display()))
    }

    pub fn is_of_dev(&self) -> bool {
        self.made_by.as_deref() == Some(MADE_BY_DEV)
    }
}

/// `TOLLWAY_URL` and `TOLLWAY_API_KEY`, else the profile. The profile's key goes to the profile's URL only: a variable must
/// not send it elsewhere.
pub fn gateway() -> anyhow::Result<Gateway> {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    choose(variable("TOLLWAY_URL"), variable("TOLLWAY_API_KEY"), || Profile::read(&crate::paths::profile()))
}

fn choose(
    url: Option<String>,
    key: Option<String>,
    profile: impl FnOnce() -> anyhow::Result<Option<Profile>>,
) -> anyhow::Result<Gateway> {
    if let (Some(url), Some(key)) = (&url, &key) {
        return Ok(Gateway { url: url.clone(), key: Some(key.clone().into()) });
    }
    let profile = profile()?;
    let same = |url: &str, profile: &Profile| url.trim_end_matches('/') == profile.url.trim_end_matches('/');
    let own_key = profile
        .as_ref()
        .filter(|profile| url.as_ref().is_none_or(|url| same(url, profile)))
        .map(|profile| profile.api_key.0.clone());
    let url = url.or(profile.map(|profile| profile.url)).unwrap_or_else(|| DEFAULT_URL.to_owned());
    Ok(Gateway { url, key: key.or(own_key).map(SecretString::from) })
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn profile() -> Profile {
        Profile { url: "http://127.0.0.1:8787".into(), api_key: Secret("tw_p".into()), config: None, made_by: None }
    }

    #[track_caller]
    fn check(url: Option<&str>, key: Option<&str>, has_profile: bool, expected: (&str, Option<&str>)) {
        let chosen = choose(url.map(str::to_owned), key.map(str::to_owned), || Ok(has_profile.then(profile))).unwrap();
        assert_eq!((chosen.url.as_str(), chosen.key.as_ref().map(ExposeSecret::expose_secret)), expected);
    }

    #[test]
    fn the_profiles_key_goes_to_the_profiles_url_only() {
        check(None, None, true, ("http://127.0.0.1:8787", Some("tw_p")));
        check(None, Some("tw_e"), true, ("http://127.0.0.1:8787", Some("tw_e")));
        check(Some("http://127.0.0.1:8787/"), None, true, ("http://127.0.0.1:8787/", Some("tw_p")));
        check(Some("http://elsewhere"), None, true, ("http://elsewhere", None));
        check(Some("http://elsewhere"), Some("tw_e"), true, ("http://elsewhere", Some("tw_e")));
        check(None, None, false, (DEFAULT_URL, None));
    }

    #[test]
    fn a_profile_reads_back_and_only_its_owner_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/profile.toml");
        profile().write(&path).unwrap();
        assert_eq!(Profile::read(&path).unwrap(), Some(profile()));
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(Profile::read(&path).unwrap_err().to_string().contains("chmod 600"));
        assert!(!format!("{:?}", profile()).contains("tw_p"));
    }
}
