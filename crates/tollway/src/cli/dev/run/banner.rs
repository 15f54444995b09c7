//! What a developer sees first.

use std::path::Path;

use serde_json::json;

use super::{Database, Setup};
use crate::{
    cli::{Format, line},
    embedded::Origin,
};

/// `is_default`: the profile is where commands look for it.
pub fn print(setup: &Setup, url: &str, profile: &Path, is_default: bool, sample: Option<&Path>) -> anyhow::Result<()> {
    if setup.format == Format::Json {
        line(
            json!({
                "url": url,
                "profile": profile,
                "data": setup.data,
                "lake": setup.lake,
                "simulator": setup.simulator,
                "models": setup.models,
                "embedded_database": matches!(setup.database, Database::Embedded(_)),
                "sample": sample,
            })
            .to_string(),
        )?;
        return Ok(());
    }
    line(text(setup, url, profile, is_default, sample))?;
    Ok(())
}

fn text(setup: &Setup, url: &str, profile: &Path, is_default: bool, sample: Option<&Path>) -> String {
    let database = match &setup.database {
        Database::Configured(place) => place.clone(),
        Database::Embedded(origin) => {
            let how = if *origin == Origin::Adopted { "adopted, it was still running; " } else { "" };
            format!("embedded PostgreSQL in {} ({how}not for production)", setup.data.display())
        }
    };
    let models = match (setup.models.as_slice(), &setup.simulator) {
        ([], _) => "none: declare [deployments] and [routes] in tollway.toml".to_owned(),
        (models, Some(simulator)) => format!("{} (simulated; steer them at {simulator}/sim/config)", models.join(", ")),
        (models, None) => models.join(", "),
    };
    let mut text = format!(
        "\nTollway is ready at {url}\n\n  \
         database  {database}\n  \
         lake      {}\n  \
         models    {models}\n  \
         admin key {}; tollway's commands find it there\n",
        setup.lake,
        profile.display(),
    );
    if !is_default {
        text.push_str(&format!(
            "\nYour own profile at {} was left alone. To use this gateway:\n  export TOLLWAY_PROFILE={}\n",
            setup.profile.display(),
            profile.display()
        ));
    }
    let file = sample.map_or_else(|| "FILE.jsonl".to_owned(), |path| path.display().to_string());
    text.push_str(&format!(
        "\nTry, in another terminal:\n  \
         tollway submit {file} --tag feature=hello --watch\n  \
         tollway jobs list\n  \
         tollway report spend --by team,feature,model\n\n\
         Ctrl-C stops it; what was accepted goes on at the next start."
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_developer_is_told_where_everything_is_and_that_it_is_not_for_production() {
        let setup = Setup {
            data: "/var/lib/tollway".into(),
            database: Database::Embedded(Origin::Created),
            lake: "/var/lib/tollway/lake".into(),
            simulator: Some("http://127.0.0.1:8788".into()),
            models: vec!["embed-sim".into(), "gpt-sim".into()],
            profile: "/home/ada/.config/tollway/profile.toml".into(),
            format: Format::Human,
        };
        let sample = Path::new("/var/lib/tollway/hello.jsonl");
        insta::assert_snapshot!(text(&setup, "http://127.0.0.1:8787", &setup.profile, true, Some(sample)), @r"

        Tollway is ready at http://127.0.0.1:8787

          database  embedded PostgreSQL in /var/lib/tollway (not for production)
          lake      /var/lib/tollway/lake
          models    embed-sim, gpt-sim (simulated; steer them at http://127.0.0.1:8788/sim/config)
          admin key /home/ada/.config/tollway/profile.toml; tollway's commands find it there

        Try, in another terminal:
          tollway submit /var/lib/tollway/hello.jsonl --tag feature=hello --watch
          tollway jobs list
          tollway report spend --by team,feature,model

        Ctrl-C stops it; what was accepted goes on at the next start.
        ");
    }
}
