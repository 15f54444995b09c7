//! The scope of a budget: any combination of dimensions. A budget applies to a call that matches all of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{JobId, LedgerRow, Tags};

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scope {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub team: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub feature: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customer: Option<String>,
    /// The public part of an API key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<JobId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deployment: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// Free tags.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
}

/// One dimension of a scope. The rarest come first, because the index finds budgets by them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dimension<'a> {
    Job(i64),
    Key(&'a str),
    Customer(&'a str),
    Tag(&'a str, &'a str),
    Feature(&'a str),
    Team(&'a str),
    Deployment(&'a str),
    Provider(&'a str),
    Environment(&'a str),
}

/// What is known of a call.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    pub team: &'a str,
    pub key: Option<&'a str>,
    pub job: Option<i64>,
    pub deployment: &'a str,
    pub provider: &'a str,
    pub tags: &'a Tags,
}

impl<'a> Facts<'a> {
    /// `tags` are the row's own, read from its `tags_json`.
    pub fn of_row(row: &'a LedgerRow, tags: &'a Tags) -> Self {
        Self {
            team: &row.team,
            key: row.key_id.as_deref(),
            job: row.job_id,
            deployment: &row.deployment,
            provider: &row.provider,
            tags,
        }
    }

    pub fn dimensions(self) -> impl Iterator<Item = Dimension<'a>> {
        let tags = self.tags;
        let named = [
            self.job.map(Dimension::Job),
            self.key.map(Dimension::Key),
            tags.customer().map(Dimension::Customer),
            Some(Dimension::Feature(tags.feature())),
            Some(Dimension::Team(self.team)),
            Some(Dimension::Deployment(self.deployment)),
            Some(Dimension::Provider(self.provider)),
            Some(Dimension::Environment(tags.environment())),
        ];
        named.into_iter().flatten().chain(tags.iter().map(|(key, value)| Dimension::Tag(key, value)))
    }

    fn has(&self, dimension: Dimension<'_>) -> bool {
        match dimension {
            Dimension::Job(job) => self.job == Some(job),
            Dimension::Key(key) => self.key == Some(key),
            Dimension::Customer(customer) => self.tags.customer() == Some(customer),
            Dimension::Tag(key, value) => self.tags.get(key) == Some(value),
            Dimension::Feature(feature) => self.tags.feature() == feature,
            Dimension::Team(team) => self.team == team,
            Dimension::Deployment(deployment) => self.deployment == deployment,
            Dimension::Provider(provider) => self.provider == provider,
            Dimension::Environment(environment) => self.tags.environment() == environment,
        }
    }
}

impl Scope {
    /// All that a call must have.
    pub fn dimensions(&self) -> impl Iterator<Item = Dimension<'_>> {
        let named = [
            self.job.map(|job| Dimension::Job(job.0)),
            self.key.as_deref().map(Dimension::Key),
            self.customer.as_deref().map(Dimension::Customer),
            self.feature.as_deref().map(Dimension::Feature),
            self.team.as_deref().map(Dimension::Team),
            self.deployment.as_deref().map(Dimension::Deployment),
            self.provider.as_deref().map(Dimension::Provider),
            self.environment.as_deref().map(Dimension::Environment),
        ];
        let tags = self.tags.iter().map(|(key, value)| Dimension::Tag(key, value));
        named.into_iter().flatten().chain(tags)
    }

    pub fn is_everything(&self) -> bool {
        self.dimensions().next().is_none()
    }

    pub fn covers(&self, facts: &Facts<'_>) -> bool {
        self.dimensions().all(|dimension| facts.has(dimension))
    }
}

/// `team=search environment=prod`; `everything` without any.
impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.is_everything() {
            return f.write_str("everything");
        }
        for (n, dimension) in self.dimensions().enumerate() {
            if n > 0 {
                f.write_str(" ")?;
            }
            match dimension {
                Dimension::Job(job) => write!(f, "job={}", JobId(job))?,
                Dimension::Key(key) => write!(f, "key={key}")?,
                Dimension::Customer(customer) => write!(f, "customer={customer}")?,
                Dimension::Tag(key, value) => write!(f, "{key}={value}")?,
                Dimension::Feature(feature) => write!(f, "feature={feature}")?,
                Dimension::Team(team) => write!(f, "team={team}")?,
                Dimension::Deployment(deployment) => write!(f, "deployment={deployment}")?,
                Dimension::Provider(provider) => write!(f, "provider={provider}")?,
                Dimension::Environment(environment) => write!(f, "environment={environment}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(scope: serde_json::Value, tags: &str, expected: bool) {
        let (said, tags): (Scope, Tags) = (serde_json::from_value(scope).unwrap(), tags.parse().unwrap());
        let facts =
            Facts { team: "search", key: Some("k"), job: None, deployment: "d", provider: "openai", tags: &tags };
        assert_eq!(said.covers(&facts), expected, "{said} {tags:?}");
        let found = said.is_everything() || said.dimensions().any(|d| facts.dimensions().any(|fact| fact == d));
        assert!(found || !expected, "what covers a call shares a dimension with it");
    }

    #[test]
    fn all_that_is_said_must_fit() {
        let prod = "environment=prod,feature=chat,customer=acme,sprint=42";
        for scope in [
            serde_json::json!({}),
            serde_json::json!({"team": "search"}),
            serde_json::json!({"team": "search", "environment": "prod", "provider": "openai"}),
            serde_json::json!({"key": "k", "customer": "acme", "tags": {"sprint": "42"}}),
            serde_json::json!({"deployment": "d", "feature": "chat"}),
        ] {
            check(scope, prod, true);
        }
        for scope in [
            serde_json::json!({"team": "other"}),
            serde_json::json!({"team": "search", "environment": "test"}),
            serde_json::json!({"tags": {"sprint": "43"}}),
            serde_json::json!({"job": "job_0000000000001"}),
        ] {
            check(scope, prod, false);
        }
        check(serde_json::json!({"feature": "unattributed"}), "", true);
    }
}
