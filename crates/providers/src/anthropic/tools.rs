//! Tools, and which of them the model may or must use.

use serde_json::{Map, Value, json};

use super::fields::{Fields, NO_COUNTERPART, Untranslatable, cannot};

pub(super) fn translated(fields: &mut Fields, out: &mut Map<String, Value>) -> Result<(), Untranslatable> {
    let mut tools = Vec::new();
    for (n, tool) in fields.list("tools")?.into_iter().enumerate() {
        tools.push(one(tool, &format!("tools[{n}]"))?);
    }
    let choice = choice(fields)?;
    if tools.is_empty() {
        return Ok(());
    }
    out.insert("tools".into(), tools.into());
    if let Some(choice) = choice {
        out.insert("tool_choice".into(), choice);
    }
    Ok(())
}

fn one(tool: Value, path: &str) -> Result<Value, Untranslatable> {
    let mut tool = Fields::of(path, tool)?;
    if tool.text("type")?.as_deref() != Some("function") {
        return cannot(tool.path("type"), format!("{NO_COUNTERPART} other than function"));
    }
    let cache_control = tool.take("cache_control");
    let mut function = Fields::of(&tool.path("function"), tool.take("function").unwrap_or_default())?;
    tool.end()?;
    let mut out = json!({"name": function.required_text("name")?});
    if let Some(description) = function.text("description")? {
        out["description"] = description.into();
    }
    let schema = function.take("parameters").unwrap_or_else(|| json!({"type": "object", "properties": {}}));
    out["input_schema"] = schema;
    if function.flag("strict")? == Some(true) {
        out["strict"] = true.into();
    }
    if let Some(cache_control) = cache_control {
        out["cache_control"] = cache_control;
    }
    function.end()?;
    Ok(out)
}

fn choice(fields: &mut Fields) -> Result<Option<Value>, Untranslatable> {
    let is_one_at_a_time = fields.flag("parallel_tool_calls")? == Some(false);
    let mut choice = match fields.take("tool_choice") {
        None if is_one_at_a_time => json!({"type": "auto"}),
        None => return Ok(None),
        Some(Value::String(word)) => match word.as_str() {
            "auto" => json!({"type": "auto"}),
            "required" => json!({"type": "any"}),
            // Forbids each call, so it takes no more members.
            "none" => return Ok(Some(json!({"type": "none"}))),
            _ => return cannot("tool_choice", "must be auto, required, none or a function"),
        },
        Some(named) => {
            let mut named = Fields::of("tool_choice", named)?;
            if named.text("type")?.as_deref() != Some("function") {
                return cannot("tool_choice.type", format!("{NO_COUNTERPART} other than function"));
            }
            let mut function = Fields::of("tool_choice.function", named.take("function").unwrap_or_default())?;
            json!({"type": "tool", "name": function.required_text("name")?})
        }
    };
    if is_one_at_a_time {
        choice["disable_parallel_tool_use"] = true.into();
    }
    Ok(Some(choice))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(request: Value, expected: Value) {
        let mut out = Map::new();
        translated(&mut Fields::of("", request).unwrap(), &mut out).unwrap();
        assert_eq!(Value::from(out), expected);
    }

    fn refused(request: Value) -> Untranslatable {
        translated(&mut Fields::of("", request).unwrap(), &mut Map::new()).unwrap_err()
    }

    #[test]
    fn tools_and_choices_are_translated() {
        let tools = json!([{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}]);
        let theirs = json!([{"name": "f", "description": "d", "input_schema": {"type": "object"}}]);
        check(json!({"tools": tools}), json!({"tools": theirs}));
        for (ours, choice) in [
            (json!({"tool_choice": "auto"}), json!({"type": "auto"})),
            (json!({"tool_choice": "required"}), json!({"type": "any"})),
            (json!({"tool_choice": "none", "parallel_tool_calls": false}), json!({"type": "none"})),
            (json!({"parallel_tool_calls": false}), json!({"type": "auto", "disable_parallel_tool_use": true})),
            (
                json!({"tool_choice": {"type": "function", "function": {"name": "f"}}}),
                json!({"type": "tool", "name": "f"}),
            ),
        ] {
            let mut request = json!({"tools": tools});
            request.as_object_mut().unwrap().extend(ours.as_object().unwrap().clone());
            check(request, json!({"tools": theirs, "tool_choice": choice}));
        }
        check(json!({"tools": [], "tool_choice": "auto"}), json!({}));
    }

    #[test]
    fn a_tool_without_parameters_has_an_empty_schema() {
        let bare = json!([{"type": "function", "function": {"name": "f", "parameters": null, "strict": true}}]);
        let schema = json!({"type": "object", "properties": {}});
        check(json!({"tools": bare}), json!({"tools": [{"name": "f", "input_schema": schema, "strict": true}]}));
    }

    #[test]
    fn other_tools_and_choices_are_refused_by_name() {
        assert_eq!(refused(json!({"tools": [{"type": "custom", "custom": {}}]})).field, "tools[0].type");
        assert_eq!(refused(json!({"tools": [{"type": "function", "function": {}}]})).field, "tools[0].function.name");
        assert_eq!(refused(json!({"tool_choice": "some"})).field, "tool_choice");
        assert_eq!(refused(json!({"tool_choice": {"type": "allowed_tools"}})).field, "tool_choice.type");
    }
}
