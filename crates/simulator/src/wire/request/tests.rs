use super::*;

fn prints(input: &str) -> Vec<u64> {
    let body = format!(r#"{{"model":"m","input":{input},"user":"u"}}"#);
    EmbeddingRequest::parse(body.as_bytes()).expect("sound").prints().to_vec()
}

#[track_caller]
fn refused(result: Result<impl Sized, Refusal>, says: &str) {
    let Err(refusal) = result else { panic!("accepted, although: {says}") };
    assert!(refusal.message.contains(says), "{}", refusal.message);
}

#[test]
fn every_form_of_input_is_read() {
    assert_eq!(prints(r#""a""#), [fingerprint(b"a")]);
    assert_eq!(prints(r#"["a","b"]"#), [fingerprint(b"a"), fingerprint(b"b")]);
    assert_eq!(prints("[1,2,3]").len(), 1);
    assert_eq!(prints("[[1,2],[3]]").len(), 2);
    assert_eq!(prints("[[1,2,3]]"), prints("[1,2,3]"));
    assert_ne!(prints("[1,2,3]"), prints("[1,3,2]"));
}

#[test]
fn a_texts_spelling_in_json_does_not_matter() {
    assert_eq!(prints(r#""\u00e9\n""#), prints("\"é\\n\""));
}

#[test]
fn unusable_embedding_requests_are_explained() {
    let parse = |input: &str| {
        let body = format!(r#"{{"model":"m","input":{input}}}"#);
        EmbeddingRequest::parse(body.as_bytes()).map(drop)
    };
    refused(parse(r#"["a",1]"#), "mixes");
    refused(parse("[[1],2]"), "mixes");
    refused(parse("[]"), "1 to 2048");
    refused(parse(r#"["a",""]"#), "empty text");
    refused(parse("[[]]"), "empty array");
    refused(parse("{}"), "expected a text, an array of texts");
    refused(parse(&format!("{:?}", vec!["a"; 2_049])), "1 to 2048");
    refused(parse(r#""a","dimensions":0"#), "dimensions");
    refused(parse(r#""a","encoding_format":"int8""#), "int8");
}

#[test]
fn a_chat_request_is_borrowed() {
    let body = br#"{"model":"m","messages": [{"role":"user","content":"hi"}],"temperature":0.5,
        "stream":true,"stream_options":{"include_usage":true},"max_tokens":3}"#;
    let request = ChatRequest::parse(body).expect("sound");
    assert!(matches!(request.model, Cow::Borrowed("m")));
    assert!(request.is_streamed() && request.wants_usage());
    assert_eq!(request.max_tokens(), Some(3));
    assert_eq!(request.print(), fingerprint(br#"[{"role":"user","content":"hi"}]"#));
}

#[test]
fn unusable_chat_requests_are_explained() {
    let parse = |body: &'static str| ChatRequest::parse(body.as_bytes()).map(drop);
    refused(parse(r#"{"model":"m"}"#), "missing field `messages`");
    refused(parse(r#"{"messages":[{}]}"#), "missing field `model`");
    refused(parse(r#"{"model":"m","messages":[ ]}"#), "at least one message");
    refused(parse(r#"{"model":"m","messages":"hi"}"#), "at least one message");
    refused(parse("{\"model\""), "EOF");
}
