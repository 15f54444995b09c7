//! A value that a JSON schema allows: what a model answers when it keeps to one.

use serde_json::{Map, Value, json};

/// Schemas that refer to themselves end here.
const DEEPEST: usize = 12;

/// An instance of `schema`, as small as it allows; `text` stands wherever any text will do.
pub fn instance(schema: &Value, text: &str) -> Value {
    Maker { root: schema, text }.make(schema, 0)
}

struct Maker<'a> {
    root: &'a Value,
    text: &'a str,
}

impl Maker<'_> {
    fn make(&self, schema: &Value, depth: usize) -> Value {
        if depth > DEEPEST {
            return Value::Null;
        }
        for fixed in ["const", "default"] {
            if let Some(value) = schema.get(fixed) {
                return value.clone();
            }
        }
        if let Some(first) = schema.get("enum").and_then(|all| all.get(0)) {
            return first.clone();
        }
        if let Some(found) = schema.get("$ref").and_then(Value::as_str).and_then(|name| self.find(name)) {
            return self.make(found, depth + 1);
        }
        for choice in ["anyOf", "oneOf", "allOf"] {
            if let Some(first) = schema.get(choice).and_then(|all| all.get(0)) {
                return self.make(first, depth + 1);
            }
        }
        match kind(schema) {
            "object" => self.object(schema, depth),
            "array" => self.array(schema, depth),
            "integer" => json!(whole(schema)),
            "number" => schema.get("minimum").cloned().unwrap_or_else(|| json!(0.5)),
            "boolean" => json!(true),
            "null" => Value::Null,
            _ => Value::String(self.string(schema)),
        }
    }

    fn find(&self, name: &str) -> Option<&Value> {
        self.root.pointer(name.strip_prefix('#')?)
    }

    fn object(&self, schema: &Value, depth: usize) -> Value {
        let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
            return json!({});
        };
        // Deep down only what must be there, so that a tree of trees ends.
        let required = |name: &str| {
            schema.get("required").and_then(Value::as_array).is_some_and(|all| all.iter().any(|one| one == name))
        };
        let wanted = properties.iter().filter(|(name, _)| depth < 4 || required(name));
        let made: Map<String, Value> =
            wanted.map(|(name, schema)| (name.clone(), self.make(schema, depth + 1))).collect();
        made.into()
    }

    fn array(&self, schema: &Value, depth: usize) -> Value {
        let least = schema.get("minItems").and_then(Value::as_u64).unwrap_or(u64::from(depth < 4));
        let any = json!({"type": "string"});
        let items = schema.get("items").unwrap_or(&any);
        (0..least.min(64)).map(|_| self.make(items, depth + 1)).collect()
    }

    fn string(&self, schema: &Value) -> String {
        let text = match schema.get("format").and_then(Value::as_str) {
            Some("date") => "2026-01-31",
            Some("date-time") => "2026-01-31T12:00:00Z",
            Some("time") => "12:00:00Z",
            Some("email") => "someone@example.com",
            Some("uri") => "https://example.com/",
            Some("uuid") => "01938c5e-0000-7000-8000-0123456789ab",
            _ => self.text,
        };
        let limit = |name: &str| schema.get(name).and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
        let mut text: String = text.chars().take(limit("maxLength").unwrap_or(usize::MAX)).collect();
        let missing = limit("minLength").unwrap_or(0).min(1_000).saturating_sub(text.chars().count());
        text.extend(std::iter::repeat_n('x', missing));
        text
    }
}

/// The first type that is not null.
fn kind(schema: &Value) -> &str {
    match schema.get("type") {
        Some(Value::String(kind)) => kind,
        Some(Value::Array(kinds)) => {
            kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null").unwrap_or("null")
        }
        _ if schema.get("properties").is_some() => "object",
        _ if schema.get("items").is_some() => "array",
        _ => "string",
    }
}

fn whole(schema: &Value) -> i64 {
    let bound = |name: &str| schema.get(name).and_then(Value::as_f64);
    let least = bound("minimum").map(f64::ceil).or_else(|| bound("exclusiveMinimum").map(|least| least.floor() + 1.0));
    let most = bound("maximum").map_or(1.0, |most| most.floor().min(1.0));
    least.unwrap_or(most) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(schema: Value, expected: Value) {
        assert_eq!(instance(&schema, "re:1"), expected, "{schema}");
    }

    #[test]
    fn an_instance_keeps_to_its_schema() {
        check(json!({"type": "string"}), json!("re:1"));
        check(json!({"type": ["null", "integer"], "minimum": 7}), json!(7));
        check(json!({"enum": ["red", "blue"]}), json!("red"));
        check(json!({"type": "array", "items": {"type": "boolean"}, "minItems": 2}), json!([true, true]));
        check(json!({"type": "string", "minLength": 6, "maxLength": 6}), json!("re:1xx"));
        check(
            json!({"type": "object", "properties": {
                "day": {"type": "string", "format": "date"}, "who": {"$ref": "#/$defs/person"}},
                "$defs": {"person": {"properties": {"age": {"type": "integer", "maximum": 0}}}}}),
            json!({"day": "2026-01-31", "who": {"age": 0}}),
        );
        check(json!({"anyOf": [{"type": "number"}, {"type": "null"}]}), json!(0.5));
    }

    #[test]
    fn a_schema_that_contains_itself_ends() {
        let tree = json!({"type": "object", "properties": {"children": {"type": "array", "items": {"$ref": "#"}}}});
        assert!(instance(&tree, "x").is_object());
    }
}
