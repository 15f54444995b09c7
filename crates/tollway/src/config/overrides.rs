//! `TOLLWAY_SECTION__KEY` variables over the file.

use toml::{Table, Value};

use super::{
    Config, dates,
    error::{ConfigError, SettingOrigin},
    unknown,
};

/// A variable is an override when its name has a double underscore: `TOLLWAY_WORKER__SLOTS`, not `TOLLWAY_URL`.
pub fn path_of(variable: &str) -> Option<Vec<String>> {
    let rest = variable.strip_prefix("TOLLWAY_")?;
    let path: Vec<String> = rest.split("__").map(str::to_lowercase).collect();
    (path.len() > 1 && path.iter().all(|part| !part.is_empty())).then_some(path)
}

/// Sets one override. A value is read as TOML (`8`, `true`, `["a", "b"]`) where that fits, else as text.
pub fn apply(table: &Table, variable: &str, path: &[String], value: &str) -> Result<Table, ConfigError> {
    let place = || SettingOrigin::Variable(variable.to_owned());
    let typed = format!("value = {value}").parse::<Table>().ok().and_then(|mut parsed| parsed.remove("value"));
    let typed = typed.map(dates::as_text);
    let text = Value::String(value.to_owned());
    let mut first_error = None;
    for value in typed.into_iter().chain([text]) {
        let mut changed = table.clone();
        let actual =
            set(&mut changed, path, value).map_err(|message| ConfigError::Invalid { place: place(), message })?;
        match changed.clone().try_into::<Config>() {
            Ok(_) => return Ok(changed),
            Err(error) => first_error = first_error.or(Some((actual, error))),
        }
    }
    let Some((actual, error)) = first_error else { return Ok(table.clone()) };
    Err(explain(place(), &actual, error.message()))
}

fn explain(place: SettingOrigin, path: &[String], message: &str) -> ConfigError {
    match unknown::parse(message) {
        Some(unknown) => {
            let depth = path.iter().position(|part| *part == unknown.key).unwrap_or(path.len() - 1);
            let parent = path[..depth].join(".");
            let key = unknown::join(&parent, &unknown.key);
            ConfigError::UnknownKey { place, key, advice: unknown::advice(&unknown, &parent) }
        }
        None => ConfigError::Invalid { place, message: format!("{}: {message}", path.join(".")) },
    }
}

/// Returns the path as the file spells it: `TOLLWAY_ROUTES__GPT_SIM__…` means `[routes.gpt-sim]` where there is one.
fn set(table: &mut Table, path: &[String], value: Value) -> Result<Vec<String>, String> {
    let mut actual = Vec::with_capacity(path.len());
    let mut place = table;
    for (depth, part) in path.iter().enumerate() {
        let key = place.keys().find(|key| as_variable(key) == *part).cloned().unwrap_or_else(|| part.clone());
        actual.push(key.clone());
        if depth + 1 == path.len() {
            place.insert(key, value);
            return Ok(actual);
        }
        let next = place.entry(key).or_insert_with(|| Value::Table(Table::new()));
        place = next.as_table_mut().ok_or_else(|| format!("{} has no keys below it", actual.join(".")))?;
    }
    Ok(actual)
}

fn as_variable(key: &str) -> String {
    key.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect()
}
