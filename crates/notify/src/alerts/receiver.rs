//! The receivers of alerts.

use domain::AlertKind;
use secrecy::{ExposeSecret, SecretString};
use standardwebhooks::Webhook;

use crate::webhook::{BadUrl, check_url};

/// Where alerts go: `[alerts.NAME]`.
#[derive(Debug, Clone)]
pub struct Receiver {
    pub name: String,
    /// A Slack address is all that it takes to write there, and others may hold a token.
    pub(super) url: SecretString,
    /// What its messages are signed with; `None`: it is Slack.
    pub(super) secret: Option<SecretString>,
    on: Vec<AlertKind>,
    teams: Vec<String>,
}

/// As it is declared.
#[derive(Debug)]
pub struct ReceiverSpec {
    pub name: String,
    pub url: SecretString,
    /// Of a webhook, as Standard Webhooks writes it; `None`: Slack.
    pub secret: Option<SecretString>,
    /// Which kinds it hears of.
    pub on: Vec<AlertKind>,
    /// Of which teams alone; empty: of all, and of what concerns no team.
    pub teams: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadReceiver {
    #[error("url: {0}")]
    Url(#[from] BadUrl),
    #[error("secret: it is not of the form whsec_<base64>, such as `echo whsec_$(openssl rand -base64 32)` prints")]
    Secret,
}

impl Receiver {
    /// Checks what can be told without resolving the host's name; that is done at each delivery.
    pub fn new(wanted: ReceiverSpec, private_allowed: bool) -> Result<Self, BadReceiver> {
        let ReceiverSpec { name, url, secret, on, teams } = wanted;
        check_url(url.expose_secret(), private_allowed)?;
        let receiver = Self { name, url, secret, on, teams };
        match (&receiver.secret, receiver.key()) {
            (Some(_), None) => Err(BadReceiver::Secret),
            _ => Ok(receiver),
        }
    }

    pub(super) fn hears(&self, kind: AlertKind, team: Option<&str>) -> bool {
        let is_of_its_teams = || self.teams.is_empty() || team.is_some_and(|team| self.teams.iter().any(|t| t == team));
        kind == AlertKind::Test || self.on.contains(&kind) && is_of_its_teams()
    }

    pub(super) fn key(&self) -> Option<Webhook> {
        // A key of nothing would sign, and prove nothing.
        let secret = self.secret.as_ref()?.expose_secret();
        let has_key = secret.strip_prefix("whsec_").is_some_and(|key| key.len() >= 32);
        Webhook::new(secret).ok().filter(|_| has_key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receiver(url: &str, secret: Option<&str>, teams: &[&str]) -> Result<Receiver, BadReceiver> {
        let wanted = ReceiverSpec {
            name: "ops".into(),
            url: url.into(),
            secret: secret.map(Into::into),
            on: vec![AlertKind::Budget, AlertKind::ProviderDown],
            teams: teams.iter().map(|team| (*team).to_owned()).collect(),
        };
        Receiver::new(wanted, false)
    }

    #[test]
    fn a_receiver_hears_of_its_kinds_and_teams() {
        let url = "https://hooks.example.com/a";
        let (all, one) = (receiver(url, None, &[]).unwrap(), receiver(url, None, &["search"]).unwrap());
        for (kind, team, of_all, of_one) in [
            (AlertKind::Budget, Some("search"), true, true),
            (AlertKind::Budget, Some("support"), true, false),
            (AlertKind::Budget, None, true, false),
            (AlertKind::ProviderDown, None, true, false),
            (AlertKind::DeadLetters, Some("search"), false, false),
            (AlertKind::Test, None, true, true),
        ] {
            assert_eq!((all.hears(kind, team), one.hears(kind, team)), (of_all, of_one), "{kind:?} {team:?}");
        }
    }

    #[test]
    fn what_could_not_be_delivered_is_refused_with_the_reason() {
        let refused = |url, secret| receiver(url, secret, &[]).unwrap_err();
        assert!(refused("https://10.0.0.1/hook", None).to_string().contains("private address"));
        assert_eq!(refused("hooks", None), BadReceiver::Url(BadUrl::Form));
        for secret in ["", "secret", "whsec_", "whsec_YQ==", "whsec_%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%"] {
            assert_eq!(refused("https://hooks.example.com/", Some(secret)), BadReceiver::Secret, "{secret}");
        }
    }

    #[test]
    fn no_secret_is_shown() {
        let secret = "whsec_Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5";
        let shown = format!("{:?}", receiver("https://hooks.example.com/canary", Some(secret), &[]).unwrap());
        assert!(!shown.contains("canary") && !shown.contains("Y2Fu"), "{shown}");
    }
}
