//! A job's priority, deadline, what it comes after and what it may cost, changed while it waits or runs.

use axum::{Json, body::Body, extract::State};
use chrono::{DateTime, Utc};
use domain::{After, Job, JobId, money::Total};
use engine::{
    admit::Permission,
    jobs::{self, Change},
};
use serde::{Deserialize, Deserializer};

use super::jobs::{by, no_job, refused};
use crate::{
    App,
    auth::CurrentCaller,
    input::{Id, read_json},
    problem::Problem,
};

/// What is left out stays; null takes it away.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Patch {
    priority: Option<i16>,
    #[serde(deserialize_with = "given")]
    deadline: Option<Option<DateTime<Utc>>>,
    #[serde(deserialize_with = "given")]
    after: Option<Option<After>>,
    max_cost: Option<Total>,
}

/// Tells null from nothing.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(value: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(value).map(Some)
}

pub async fn change(
    State(app): State<App>,
    CurrentCaller(caller): CurrentCaller,
    Id(id): Id<JobId>,
    body: Body,
) -> Result<Json<Job>, Problem> {
    let by = by(&caller, Permission::ManageJobs);
    // A job that does not exist is 404, whatever the body says.
    jobs::get(&app.engine, by.scope, id).await?.ok_or_else(|| no_job(id))?;
    let Patch { priority, deadline, after, max_cost } = read_json(body).await?;
    let done = jobs::change(&app.engine, by, id, Change { priority, deadline, after, max_cost }).await;
    done.map(Json).map_err(|error| refused(id, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_takes_away_and_silence_does_not() {
        let read = |json: &str| serde_json::from_str::<Patch>(json).unwrap();
        let patch = read(r#"{"deadline":null,"priority":-3}"#);
        assert_eq!((patch.priority, patch.deadline, patch.after), (Some(-3), Some(None), None));
        assert!(read(r#"{"after":{"job":"job_0000000000001"}}"#).after.flatten().is_some());
        assert!(serde_json::from_str::<Patch>(r#"{"lane":"prod"}"#).is_err());
    }
}
