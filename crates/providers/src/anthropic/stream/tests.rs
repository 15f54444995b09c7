use domain::UsageSource;
use proptest::prelude::*;

use super::*;
use crate::{client::sse::Events, target::tests::deployment};

/// How a stream comes out for the caller.
struct Shown {
    text: String,
    end: StreamEnd,
    /// The class of the error that ended it.
    error: Option<&'static str>,
    /// Where the first content stands among what was passed on.
    first_content: Option<usize>,
}

impl Shown {
    fn chunks(&self) -> Vec<Value> {
        let data = self.text.split_terminator("\n\n").filter_map(|event| event.strip_prefix("data: "));
        data.filter(|data| *data != "[DONE]").map(|data| serde_json::from_str(data).unwrap()).collect()
    }

    fn words(&self) -> String {
        self.chunks().iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect()
    }
}

fn play(stream: &[u8], cuts: &[usize], wants_usage: bool) -> Shown {
    let target = Target::resolve("d", &deployment("http://x")).unwrap();
    let mut translator = Translator::new(wants_usage, DateTime::UNIX_EPOCH);
    let mut events = Events::new(1 << 20);
    let mut shown = Shown { text: String::new(), end: StreamEnd::default(), error: None, first_content: None };
    let mut passed = 0;
    for ends in cuts.windows(2) {
        events.push(&stream[ends[0]..ends[1]]);
        while let Some(event) = events.next().unwrap() {
            let (chunk, is_content) = match translator.take(&event, &target, &mut shown.end) {
                Ok(Step::Translated { chunk, is_content, .. }) => (chunk, is_content),
                Ok(Step::Pass) => (event.raw.clone(), false),
                Ok(Step::Hide) => continue,
                Ok(Step::Content | Step::Done) => panic!("Anthropic's own events never pass"),
                Err(error) => {
                    shown.error = Some(error.class.as_str());
                    return shown;
                }
            };
            if is_content {
                shown.first_content.get_or_insert(passed);
            }
            passed += 1;
            shown.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }
    shown
}

fn bytes(events: &[Value]) -> Vec<u8> {
    let event = |event: &Value| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap());
    events.iter().map(event).collect::<String>().into_bytes()
}

fn run(events: &[Value], wants_usage: bool) -> Shown {
    let stream = bytes(events);
    play(&stream, &[0, stream.len()], wants_usage)
}

fn start() -> Value {
    json!({"type": "message_start", "message": {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "content": [], "stop_reason": null,
        "usage": {"input_tokens": 9, "cache_read_input_tokens": 3, "output_tokens": 1, "service_tier": "standard"},
    }})
}

fn block(at: u64, block: Value) -> Value {
    json!({"type": "content_block_start", "index": at, "content_block": block})
}

fn text(words: &str) -> Value {
    json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": words}})
}

fn arguments(at: u64, piece: &str) -> Value {
    json!({"type": "content_block_delta", "index": at, "delta": {"type": "input_json_delta", "partial_json": piece}})
}

fn stop(at: u64) -> Value {
    json!({"type": "content_block_stop", "index": at})
}

fn end(reason: &str) -> Vec<Value> {
    let delta = json!({"stop_reason": reason, "stop_sequence": null});
    vec![
        json!({"type": "message_delta", "delta": delta, "usage": {"output_tokens": 20}}),
        json!({"type": "message_stop"}),
    ]
}

fn words() -> Vec<Value> {
    let begun = vec![start(), block(0, json!({"type": "text", "text": ""})), json!({"type": "ping"})];
    [begun, vec![text("h\u{e9}"), text("y"), stop(0)], end("end_turn")].concat()
}

#[test]
fn events_are_chunks() {
    let shown = run(&words(), true);
    assert_eq!((shown.error, shown.words()), (None, "h\u{e9}y".to_owned()));
    assert_eq!((shown.end.output_bytes, shown.end.finish_seen, shown.end.choices), (4, true, 1));
    assert_eq!(shown.end.usage.map(|usage| (usage.prompt_total(), usage.output_total())), Some((Some(12), Some(20))));
    assert_eq!((shown.end.model.as_deref(), shown.end.finish_reason.as_deref()), (Some("claude"), Some("stop")));
    assert_eq!(shown.end.service_tier.as_deref(), Some("standard"));
    insta::assert_snapshot!("words", shown.text);
    let quiet = run(&words(), false);
    assert!(!quiet.text.contains("usage") && quiet.text.ends_with("data: [DONE]\n\n"), "{}", quiet.text);
}

#[test]
fn calls_are_counted_apart_from_other_blocks() {
    let tool = |id: &str, name: &str| json!({"type": "tool_use", "id": id, "name": name, "input": {}});
    let said = vec![start(), block(0, json!({"type": "text", "text": ""})), text("I ask."), stop(0)];
    let first =
        vec![block(1, tool("toolu_1", "f")), arguments(1, ""), arguments(1, "{\"n\":"), arguments(1, "1}"), stop(1)];
    let second = vec![block(2, tool("toolu_2", "g")), arguments(2, ""), stop(2)];
    let shown = run(&[said, first, second, end("tool_use")].concat(), false);
    let chunks = shown.chunks();
    let arguments = |index: u64| -> String {
        let calls = chunks.iter().map(|chunk| &chunk["choices"][0]["delta"]["tool_calls"][0]);
        calls.filter(|call| call["index"] == index).filter_map(|call| call["function"]["arguments"].as_str()).collect()
    };
    assert_eq!((arguments(0).as_str(), arguments(1).as_str()), ("{\"n\":1}", "{}"));
    assert_eq!(shown.end.output_bytes, "I ask.f{\"n\":1}g{}".len() as u64);
    insta::assert_snapshot!("calls", shown.text);
}

#[test]
fn a_role_and_a_ping_are_no_content() {
    let shown = run(&words(), false);
    // The role and the ping come before.
    assert_eq!(shown.first_content, Some(2));
    let thinking =
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "hm"}});
    assert_eq!(run(&[start(), thinking], false).first_content, Some(1));
    assert_eq!(run(&[vec![start()], end("end_turn")].concat(), false).first_content, None);
}

#[test]
fn an_error_event_is_an_error_and_an_end_without_a_reason_is_no_end() {
    let error = |kind: &str| json!({"type": "error", "error": {"type": kind, "message": "x"}});
    for (kind, class) in [
        ("overloaded_error", "overloaded"),
        ("rate_limit_error", "throttled"),
        ("api_error", "server_error"),
        ("invalid_request_error", "invalid_request"),
    ] {
        let shown = run(&[start(), text("half"), error(kind)], false);
        assert_eq!((shown.error, shown.text.contains("[DONE]")), (Some(class), false));
    }
    assert_eq!(run(&[start(), json!({"type": "message_stop"})], false).error, Some("garbage"));
    for (stream, class) in [
        ("event: error\ndata: out of memory\n\n", "server_error"),
        ("event: error\n\n", "server_error"),
        ("event: error\ndata: {\"message\":\"x\"}\n\n", "server_error"),
        ("{\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\"}}\n\n", "throttled"),
        ("{\"type\":\"message\"}\n\n", "garbage"),
        ("data: <html>\n\n", "garbage"),
    ] {
        assert_eq!(play(stream.as_bytes(), &[0, stream.len()], false).error, Some(class), "{stream}");
    }
}

#[test]
fn a_stream_that_breaks_off_has_used_what_came() {
    let usage = |events: &[Value]| {
        run(events, false).end.usage.map(|usage| (usage.prompt_total(), usage.output_total(), usage.source))
    };
    assert_eq!(usage(&[start()]), None, "a call that fails before it writes is not paid for");
    assert_eq!(usage(&[start(), text("x")]), Some((Some(12), Some(1), UsageSource::Estimated)));
    assert_eq!(usage(&[start(), text(&"x".repeat(400))]), Some((Some(12), Some(100), UsageSource::Estimated)));
    assert_eq!(usage(&words()), Some((Some(12), Some(20), UsageSource::Provider)));
}

#[test]
fn the_last_counts_of_input_are_those_that_hold() {
    let corrected = json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"},
        "usage": {"input_tokens": 40, "cache_read_input_tokens": null, "output_tokens": 7}});
    let shown = run(&[start(), text("x"), corrected, json!({"type": "message_stop"})], true);
    assert_eq!(shown.end.usage.map(|usage| (usage.prompt_total(), usage.output_total())), Some((Some(43), Some(7))));
    assert_eq!(shown.chunks().last().unwrap()["usage"]["total_tokens"], 50);
}

proptest! {
    /// However the bytes are cut, and whatever unknown events, pings and comments stand between, the caller reads the same words.
    #[test]
    fn cuts_and_unknown_events_change_nothing(
        pieces in proptest::collection::vec(".{0,8}", 0..8),
        noise in proptest::collection::vec((any::<prop::sample::Index>(), 0..5usize), 0..8),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let strangers = [
            json!({"type": "ping"}),
            json!({"type": "of_tomorrow", "delta": {"text": "not yours"}}),
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "citations_delta", "citation": {}}}),
            json!({"type": "content_block_start", "index": 9, "content_block": {"type": "server_tool_use", "id": "s"}}),
            json!({"type": "content_block_delta", "index": 9, "delta": {"type": "signature_delta", "signature": "s"}}),
        ];
        let mut events = vec![start(), block(0, json!({"type": "text", "text": ""}))];
        events.extend(pieces.iter().map(|piece| text(piece)));
        events.extend(vec![stop(0)].into_iter().chain(end("max_tokens")));
        for (at, which) in noise {
            events.insert(at.index(events.len()), strangers[which].clone());
        }
        let stream = bytes(&events);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        let shown = play(&stream, &cuts, true);
        prop_assert_eq!((shown.error, shown.words()), (None, pieces.concat()));
        prop_assert_eq!(shown.end.finish_reason.as_deref(), Some("length"));
        prop_assert_eq!(shown.end.output_bytes, pieces.concat().len() as u64);
        prop_assert!(shown.text.ends_with("data: [DONE]\n\n") && !shown.text.contains("not yours"));
    }
}
