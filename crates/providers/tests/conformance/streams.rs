//! Answers that come in events, and tools, whose calls come both ways.

use super::*;

#[tokio::test]
async fn a_stream_is_passed_on_and_metered() {
    for kind in KINDS {
        let bench = Bench::start(kind, json!({"answer_tokens": 40, "stream_chunks": 10, "stream_pace_ms": 1.0})).await;
        let (text, end) = bench.stream(&bench.target()).await.unwrap();
        let end = end.unwrap();
        assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
        assert!(!text.contains("prompt_tokens"), "usage that the caller did not ask for was passed on");
        assert_eq!(end.usage.and_then(|usage| usage.output_total()), Some(40));
        assert!(end.finish_seen && end.output_bytes >= 100 && end.ttft < Some(end.latency), "{end:?}");
    }
}

#[tokio::test]
async fn usage_is_streamed_to_the_caller_who_asks() {
    for kind in KINDS {
        let bench = Bench::start(kind, json!({"answer_tokens": 40, "stream_chunks": 4})).await;
        let body = support::stream_body().replacen('{', r#"{"stream_options":{"include_usage":true},"#, 1);
        let (text, end) = bench.stream_of(&bench.target(), &body).await.unwrap();
        let chunks = chunks(&text);
        let last = chunks.last().unwrap();
        assert_eq!((&last["choices"], &last["usage"]["completion_tokens"]), (&json!([]), &json!(40)));
        let said: String = chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
        assert_eq!(end.unwrap().output_bytes, said.len() as u64);
        assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
        let reasons: Vec<&str> =
            chunks.iter().filter_map(|chunk| chunk["choices"][0]["finish_reason"].as_str()).collect();
        assert_eq!(reasons, ["stop"]);
    }
}

/// The chunks of a stream that has ended.
fn chunks(text: &str) -> Vec<Value> {
    let data = text.split_terminator("\n\n").filter_map(|event| event.strip_prefix("data: "));
    data.filter(|data| *data != "[DONE]").map(|data| serde_json::from_str(data).unwrap()).collect()
}

#[tokio::test]
async fn a_tool_is_called_whole_and_in_pieces() {
    let tool = json!({"type": "function", "function": {"name": "weather", "parameters": {
        "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}});
    for kind in KINDS {
        let bench = Bench::start(kind, json!({})).await;
        let mut body: Value = serde_json::from_str(&support::chat_body()).unwrap();
        body["tools"] = json!([tool]);
        let answer = bench.call(&bench.target(), Endpoint::ChatCompletions, &body.to_string()).await.1.unwrap();
        assert_eq!(answer.finish_reason.as_deref(), Some("tool_calls"));
        let shown: Value = serde_json::from_slice(&answer.body).unwrap();
        let call = &shown["choices"][0]["message"]["tool_calls"][0]["function"];
        let arguments = call["arguments"].as_str().unwrap();
        assert!(
            serde_json::from_str::<Value>(arguments).unwrap()["city"].is_string() && call["name"] == "weather",
            "{shown}"
        );

        body["stream"] = true.into();
        let (text, end) = bench.stream_of(&bench.target(), &body.to_string()).await.unwrap();
        assert_eq!(end.unwrap().finish_reason.as_deref(), Some("tool_calls"));
        let function = |name: &str| -> String {
            let pieces = chunks(&text).into_iter().filter_map(|chunk| {
                let call = chunk.pointer("/choices/0/delta/tool_calls/0/function")?;
                call[name].as_str().map(str::to_owned)
            });
            pieces.collect()
        };
        assert!(serde_json::from_str::<Value>(&function("arguments")).unwrap()["city"].is_string(), "{text}");
        assert_eq!(function("name"), "weather");

        // The result of the call is answered in words.
        let call = &shown["choices"][0]["message"];
        let result = json!({"role": "tool", "tool_call_id": call["tool_calls"][0]["id"], "content": "17"});
        body["messages"].as_array_mut().unwrap().extend([call.clone(), result]);
        body["stream"] = false.into();
        let answer = bench.call(&bench.target(), Endpoint::ChatCompletions, &body.to_string()).await.1.unwrap();
        assert_eq!(answer.finish_reason.as_deref(), Some("stop"));
    }
}

#[tokio::test]
async fn a_stream_that_is_dropped_ends_the_call() {
    for kind in KINDS {
        let bench = Bench::start(kind, json!({"stream_chunks": 1000, "stream_pace_ms": 20.0})).await;
        let body = support::stream_body();
        let call = Call { endpoint: Endpoint::ChatCompletions, body: &body, attempt_id: AttemptId::now_v7() };
        let mut stream = bench.provider.stream(&bench.target(), &call).await.unwrap();
        stream.next().await.unwrap().unwrap();
        drop(stream);
        let ended = async {
            while bench.journal().await[0]["ended_us"].is_null() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), ended).await.expect("the provider goes on answering nobody");
    }
}
