//! Messages as turns of user and assistant, and the system's blocks above them.

use serde_json::{Value, json};

use super::fields::{Fields, NO_COUNTERPART, Untranslatable, cannot};

#[derive(Debug, Default)]
pub(super) struct Turns {
    pub system: Vec<Value>,
    pub messages: Vec<Value>,
}

/// Whether images may stand in a message.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Images {
    Allowed,
    Refused,
}

/// All of a conversation. Neighbours of one role become one turn, for the results of parallel calls must stand in one.
pub(super) fn translated(messages: Vec<Value>) -> Result<Turns, Untranslatable> {
    let mut system = Vec::new();
    let mut turns: Vec<(&'static str, Vec<Value>)> = Vec::new();
    for (n, message) in messages.into_iter().enumerate() {
        let path = format!("messages[{n}]");
        let mut fields = Fields::of(&path, message)?;
        let (role, blocks) = match fields.text("role")?.as_deref() {
            Some("system" | "developer") => {
                system.extend(content(&mut fields, Images::Refused)?);
                fields.end()?;
                continue;
            }
            Some("user") => ("user", content(&mut fields, Images::Allowed)?),
            Some("assistant") => ("assistant", assistant(&mut fields)?),
            Some("tool") => ("user", vec![tool_result(&mut fields)?]),
            _ => return cannot(fields.path("role"), "must be system, developer, user, assistant or tool"),
        };
        fields.end()?;
        if blocks.is_empty() {
            return cannot(format!("{path}.content"), "must not be empty; the Messages API refuses such a message");
        }
        match turns.last_mut() {
            Some((last, before)) if *last == role => before.extend(blocks),
            _ => turns.push((role, blocks)),
        }
    }
    if turns.is_empty() {
        return cannot("messages", "must hold a message of a user or an assistant");
    }
    let messages = turns.into_iter().map(|(role, blocks)| json!({"role": role, "content": blocks})).collect();
    Ok(Turns { system, messages })
}

/// The blocks of `content`. An empty text is left out: the Messages API refuses it, and it says nothing.
fn content(fields: &mut Fields, images: Images) -> Result<Vec<Value>, Untranslatable> {
    let parts = match fields.take("content") {
        None => return Ok(Vec::new()),
        Some(Value::String(text)) => return Ok(text_block(text).into_iter().collect()),
        Some(Value::Array(parts)) => parts,
        Some(_) => return cannot(fields.path("content"), "must be a string or an array of parts"),
    };
    let mut blocks = Vec::with_capacity(parts.len());
    for (n, part) in parts.into_iter().enumerate() {
        let mut part = Fields::of(&fields.path(&format!("content[{n}]")), part)?;
        let cache_control = part.take("cache_control");
        let mut block = match part.text("type")?.as_deref() {
            Some("text") => text_block(part.required_text("text")?),
            Some("image_url") if images == Images::Allowed => Some(image(&mut part)?),
            _ => return cannot(part.path("type"), format!("{NO_COUNTERPART} in this message")),
        };
        if let (Some(block), Some(cache_control)) = (&mut block, cache_control) {
            block["cache_control"] = cache_control;
        }
        blocks.extend(block);
        part.end()?;
    }
    Ok(blocks)
}

fn text_block(text: String) -> Option<Value> {
    (!text.is_empty()).then(|| json!({"type": "text", "text": text}))
}

fn image(part: &mut Fields) -> Result<Value, Untranslatable> {
    let path = part.path("image_url");
    let mut image = Fields::of(&path, part.take("image_url").unwrap_or_default())?;
    let url = image.required_text("url")?;
    // Anthropic scales images by a rule of its own.
    image.take("detail");
    let source = match url.strip_prefix("data:").map(|data| data.split_once(";base64,")) {
        Some(Some((media_type, data))) => json!({"type": "base64", "media_type": media_type, "data": data}),
        None if url.starts_with("https://") => json!({"type": "url", "url": url}),
        _ => return cannot(image.path("url"), "must begin with https:// or with data:, a media type and ;base64,"),
    };
    image.end()?;
    Ok(json!({"type": "image", "source": source}))
}

fn assistant(fields: &mut Fields) -> Result<Vec<Value>, Untranslatable> {
    let mut blocks = content(fields, Images::Refused)?;
    for (n, call) in fields.list("tool_calls")?.into_iter().enumerate() {
        blocks.push(tool_use(Fields::of(&fields.path(&format!("tool_calls[{n}]")), call)?)?);
    }
    fields.only("annotations", &json!([]))?;
    // Answers carry reasoning, and callers send them back; the model does not need to see it again.
    fields.take("reasoning_content");
    Ok(blocks)
}

fn tool_use(mut call: Fields) -> Result<Value, Untranslatable> {
    call.only("type", &json!("function"))?;
    let id = call.required_text("id")?;
    // The place among a stream's calls; some callers send it back.
    call.take("index");
    let mut function = Fields::of(&call.path("function"), call.take("function").unwrap_or_default())?;
    call.end()?;
    let name = function.required_text("name")?;
    let arguments =
        function.text("arguments")?.filter(|text| !text.trim().is_empty()).unwrap_or_else(|| "{}".to_owned());
    let Ok(input @ Value::Object(_)) = serde_json::from_str(&arguments) else {
        return cannot(function.path("arguments"), "must be the text of a JSON object");
    };
    function.end()?;
    Ok(json!({"type": "tool_use", "id": id, "name": name, "input": input}))
}

fn tool_result(fields: &mut Fields) -> Result<Value, Untranslatable> {
    let mut result = json!({"type": "tool_result", "tool_use_id": fields.required_text("tool_call_id")?});
    let blocks = content(fields, Images::Allowed)?;
    if !blocks.is_empty() {
        result["content"] = blocks.into();
    }
    // Older callers repeat the function's name; the id says it.
    fields.take("name");
    Ok(result)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(messages: Value, system: Value, expected: Value) {
        let turns = translated(serde_json::from_value(messages).unwrap()).unwrap();
        assert_eq!((Value::from(turns.system), Value::from(turns.messages)), (system, expected));
    }

    fn refused(messages: Value) -> String {
        translated(serde_json::from_value(messages).unwrap()).unwrap_err().field
    }

    #[test]
    fn the_systems_words_go_above_the_turns() {
        check(
            json!([
                {"role": "system", "content": "be brief"},
                {"role": "developer", "content": [{"type": "text", "text": ""}, {"type": "text", "text": "and kind"}]},
                {"role": "user", "content": "a"},
                {"role": "user", "content": [{"type": "text", "text": "b", "cache_control": {"type": "ephemeral"}}]},
            ]),
            json!([{"type": "text", "text": "be brief"}, {"type": "text", "text": "and kind"}]),
            json!([{"role": "user", "content": [
                {"type": "text", "text": "a"}, {"type": "text", "text": "b", "cache_control": {"type": "ephemeral"}},
            ]}]),
        );
    }

    #[test]
    fn parallel_calls_have_their_results_in_one_turn() {
        let call = |id: &str, arguments: &str| json!({"id": id, "type": "function", "function": {"name": "f", "arguments": arguments}});
        let used = |id: &str, input: Value| json!({"type": "tool_use", "id": id, "name": "f", "input": input});
        check(
            json!([
                {"role": "user", "content": "x"},
                {"role": "assistant", "content": null, "tool_calls": [call("a", "{\"n\":1}"), call("b", "")], "refusal": null},
                {"role": "tool", "tool_call_id": "a", "content": "1"},
                {"role": "tool", "tool_call_id": "b", "content": "", "name": "f"},
                {"role": "user", "content": "go on"},
            ]),
            json!([]),
            json!([
                {"role": "user", "content": [{"type": "text", "text": "x"}]},
                {"role": "assistant", "content": [used("a", json!({"n": 1})), used("b", json!({}))]},
                {"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": "a", "content": [{"type": "text", "text": "1"}]},
                    {"type": "tool_result", "tool_use_id": "b"},
                    {"type": "text", "text": "go on"},
                ]},
            ]),
        );
    }

    #[test]
    fn images_are_data_or_addresses() {
        let ask = |url: &str| json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]);
        let turn = |source: Value| json!([{"role": "user", "content": [{"type": "image", "source": source}]}]);
        let data = json!({"type": "base64", "media_type": "image/png", "data": "AAAA"});
        check(ask("data:image/png;base64,AAAA"), json!([]), turn(data));
        check(ask("https://x/y.png"), json!([]), turn(json!({"type": "url", "url": "https://x/y.png"})));
        assert_eq!(refused(ask("http://x/y.png")), "messages[0].content[0].image_url.url");
    }

    #[test]
    fn a_message_that_cannot_be_translated_is_refused_by_name() {
        let user = |more: Value| {
            let mut message = json!({"role": "user", "content": "x"});
            message.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            json!([{"role": "user", "content": "x"}, message])
        };
        for (more, field) in [
            (json!({"name": "ann"}), "messages[1].name"),
            (json!({"role": "function"}), "messages[1].role"),
            (json!({"content": ""}), "messages[1].content"),
            (json!({"content": 7}), "messages[1].content"),
            (json!({"content": [{"type": "input_audio"}]}), "messages[1].content[0].type"),
            (json!({"content": [{"type": "text"}]}), "messages[1].content[0].text"),
            (json!({"role": "tool"}), "messages[1].tool_call_id"),
            (json!({"role": "assistant", "refusal": "no"}), "messages[1].refusal"),
            (json!({"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]}), "messages[1].tool_calls[0].id"),
            (
                json!({"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "[]"}}]}),
                "messages[1].tool_calls[0].function.arguments",
            ),
        ] {
            assert_eq!(refused(user(more)), field);
        }
        assert_eq!(refused(json!([{"role": "system", "content": "x"}])), "messages");
    }

    proptest! {
        /// Each text of a conversation arrives once, in its order, under its role; and no turn follows one of its own role.
        #[test]
        fn no_words_are_lost(said in proptest::collection::vec((0..4usize, "[a-z]{1,6}", any::<bool>()), 1..12)) {
            const ROLES: [&str; 4] = ["system", "developer", "user", "assistant"];
            let messages = said.iter().map(|(role, text, in_parts)| match in_parts {
                true => json!({"role": ROLES[*role], "content": [{"type": "text", "text": text}]}),
                false => json!({"role": ROLES[*role], "content": text}),
            });
            let expected = |roles: &[usize]| -> Vec<&str> {
                said.iter().filter(|(role, ..)| roles.contains(role)).map(|(_, text, _)| text.as_str()).collect()
            };
            let texts = |blocks: &[Value]| -> Vec<String> {
                blocks.iter().map(|block| block["text"].as_str().unwrap().to_owned()).collect()
            };
            let turns = translated(messages.collect());
            let Ok(turns) = turns else {
                prop_assert!(expected(&[2, 3]).is_empty());
                return Ok(());
            };
            prop_assert_eq!(texts(&turns.system), expected(&[0, 1]));
            for (role, number) in [("user", 2), ("assistant", 3)] {
                let of_role = turns.messages.iter().filter(|turn| turn["role"] == role);
                let words: Vec<String> = of_role.flat_map(|turn| texts(turn["content"].as_array().unwrap())).collect();
                prop_assert_eq!(words, expected(&[number]));
            }
            prop_assert!(turns.messages.windows(2).all(|pair| pair[0]["role"] != pair[1]["role"]));
        }
    }
}
