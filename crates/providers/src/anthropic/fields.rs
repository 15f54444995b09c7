//! Reads a request's members one by one, so that the rest can be refused by name.

use serde_json::{Map, Value};

/// Why a request cannot be sent: the place of the field, and what is wrong with it, as the rest of a sentence.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Untranslatable {
    pub field: String,
    pub why: String,
}

pub(super) fn cannot<T>(field: impl Into<String>, why: impl Into<String>) -> Result<T, Untranslatable> {
    Err(Untranslatable { field: field.into(), why: why.into() })
}

pub(super) const NO_COUNTERPART: &str = "has no counterpart in the Messages API";

/// An object whose members are taken one by one.
pub(super) struct Fields {
    /// Leads to the object, and ends with a dot, or is empty.
    path: String,
    members: Map<String, Value>,
}

impl Fields {
    pub fn of(path: &str, value: Value) -> Result<Self, Untranslatable> {
        match value {
            Value::Object(members) if path.is_empty() => Ok(Self { path: String::new(), members }),
            Value::Object(members) => Ok(Self { path: format!("{path}."), members }),
            _ if path.is_empty() => cannot("the body", "must be an object"),
            _ => cannot(path, "must be an object"),
        }
    }

    /// Where the member `name` stands in the request.
    pub fn path(&self, name: &str) -> String {
        format!("{}{name}", self.path)
    }

    /// A member that is null counts as left out.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        self.members.shift_remove(name).filter(|value| !value.is_null())
    }

    pub fn text(&mut self, name: &str) -> Result<Option<String>, Untranslatable> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => cannot(self.path(name), "must be a string"),
        }
    }

    pub fn required_text(&mut self, name: &str) -> Result<String, Untranslatable> {
        match self.text(name)? {
            Some(text) => Ok(text),
            None => cannot(self.path(name), "is missing"),
        }
    }

    pub fn flag(&mut self, name: &str) -> Result<Option<bool>, Untranslatable> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(_) => cannot(self.path(name), "must be true or false"),
        }
    }

    pub fn positive(&mut self, name: &str) -> Result<Option<u64>, Untranslatable> {
        match self.take(name) {
            None => Ok(None),
            Some(value) => match value.as_u64().filter(|count| *count > 0) {
                Some(count) => Ok(Some(count)),
                None => cannot(self.path(name), "must be a whole number of at least 1"),
            },
        }
    }

    pub fn list(&mut self, name: &str) -> Result<Vec<Value>, Untranslatable> {
        match self.take(name) {
            None => Ok(Vec::new()),
            Some(Value::Array(items)) => Ok(items),
            Some(_) => cannot(self.path(name), "must be an array"),
        }
    }

    /// A member that changes nothing when it has this value, and cannot be translated when it has another.
    pub fn only(&mut self, name: &str, value: &Value) -> Result<(), Untranslatable> {
        // 0 and 0.0 are one number.
        let is_same = |other: &Value| other == value || (value.is_number() && other.as_f64() == value.as_f64());
        match self.take(name) {
            Some(other) if !is_same(&other) => {
                cannot(self.path(name), format!("{NO_COUNTERPART}; leave it out, or set it to {value}"))
            }
            _ => Ok(()),
        }
    }

    /// Refuses the members that were not taken.
    pub fn end(self) -> Result<(), Untranslatable> {
        match self.members.iter().find(|(_, value)| !value.is_null()) {
            Some((name, _)) => cannot(self.path(name), NO_COUNTERPART),
            None => Ok(()),
        }
    }
}
