//! What is taken and what is refused, by example.

mod properties;

use domain::Endpoint::{self, ChatCompletions, Embeddings};

use crate::{BadCall, Call, ImageRule, Input, Layout, MAX_CHOICES, MAX_OUTPUT, RequestLine, endpoint_of, media};

fn chat(members: &str) -> String {
    format!(r#"{{"model":"m","messages":[{{"role":"user","content":"Hi"}}]{members}}}"#)
}

fn embed(input: &str) -> String {
    format!(r#"{{"model":"m","input":{input}}}"#)
}

fn output(members: &str) -> Result<(Option<i64>, i64), String> {
    let body = chat(members);
    Call::parse(ChatCompletions, &body).map(|call| (call.output.max, call.output.choices)).map_err(|e| e.to_string())
}

fn input(endpoint: Endpoint, body: &str) -> Input {
    Call::parse(endpoint, body).unwrap().input
}

fn line(custom_id: &str, method: &str, url: &str, body: &str) -> String {
    format!(r#"{{"custom_id":"{custom_id}","method":"{method}","url":"{url}","body":{body}}}"#)
}

fn refused(line: &str) -> String {
    RequestLine::parse(line.as_bytes()).map(|_| ()).unwrap_err().to_string()
}

#[test]
fn the_larger_of_all_maxima_counts() {
    assert_eq!(output(""), Ok((None, 1)));
    assert_eq!(output(r#","max_completion_tokens":1,"max_tokens":4000"#), Ok((Some(4_000), 1)));
    assert_eq!(output(r#","max_tokens":1,"max_completion_tokens":4000"#), Ok((Some(4_000), 1)));
    assert_eq!(output(r#","max_tokens":5,"max_output_tokens":6,"max_new_tokens":7"#), Ok((Some(7), 1)));
    assert_eq!(output(r#","max_tokens":null,"max_completion_tokens":null,"n":null"#), Ok((None, 1)));
}

#[test]
fn choices_are_the_larger_of_n_and_best_of() {
    assert_eq!(output(r#","n":100,"max_tokens":100"#), Ok((Some(100), 100)));
    assert_eq!(output(r#","n":2,"best_of":20"#), Ok((None, 20)));
    assert_eq!(output(r#","\u006e":3"#), Ok((None, 3)), "a name may be written with escapes");
    let body = chat(r#","n":100,"max_tokens":100"#);
    assert_eq!(Call::parse(ChatCompletions, &body).unwrap().output.in_all(1 << 20), Some(10_000));
}

#[test]
fn numbers_out_of_range_are_refused_with_value_and_range() {
    for value in [
        "9223372036854775807",
        "99999999999999999999",
        "2147483648",
        "1e12",
        "1e2",
        "-1",
        "0",
        "1.5",
        "1.0",
        "\"5\"",
        "true",
        "[5]",
        "{}",
    ] {
        for name in ["max_tokens", "max_completion_tokens", "max_output_tokens", "max_new_tokens"] {
            let error = output(&format!(r#","{name}":{value}"#)).unwrap_err();
            let got = match value {
                "[5]" => "an array",
                "{}" => "an object",
                value => value,
            };
            assert_eq!(error, format!("{name} is {got}; it must be a whole number from 1 to 2147483647"));
        }
        let error = output(&format!(r#","n":{value}"#)).unwrap_err();
        assert!(error.starts_with("n is ") && error.ends_with("from 1 to 128"), "{error}");
    }
    assert!(output(&format!(r#","n":{}"#, MAX_CHOICES + 1)).is_err());
    assert_eq!(
        output(&format!(r#","max_tokens":{MAX_OUTPUT},"n":{MAX_CHOICES}"#)),
        Ok((Some(MAX_OUTPUT), MAX_CHOICES))
    );
    assert!(output(r#","stream":"yes""#).unwrap_err().contains("true or false"));
}

#[test]
fn a_member_that_is_read_stands_there_once() {
    for twice in [r#","n":1,"n":100"#, r#","max_tokens":1,"max_tokens":2"#, r#","model":"x""#, r#","messages":[{}]"#] {
        assert!(output(twice).unwrap_err().contains("occurs twice"), "{twice}");
    }
}

#[test]
fn one_integer_is_one_token() {
    let sevens = |n: usize| vec!["7"; n].join(",");
    assert_eq!(input(Embeddings, &embed(&format!("[{}]", sevens(2_000)))).tokens, 2_000);
    let two = input(Embeddings, &embed(&format!("[[{}],[1234567890]]", sevens(500))));
    assert_eq!(two.tokens, 501);
    assert_eq!(two.text_bytes, embed("").len(), "their digits are not counted as text too");
    assert_eq!(input(Embeddings, &embed(r#""7,7,7,7""#)).tokens, 0);
}

#[test]
fn inputs_are_counted() {
    let count = |input: &str| Layout::scan(Embeddings, &embed(input)).unwrap().inputs;
    assert_eq!(count(r#""text""#), Some(1));
    assert_eq!(count(r#"["a", "b,]", "c"]"#), Some(3));
    assert_eq!(count("[ 1, 2, 3]"), Some(1));
    assert_eq!(count("[[1,2],[3]]"), Some(2));
    assert_eq!((count("[]"), count("{}"), count("null")), (None, None, None));
}

#[test]
fn an_empty_prompt_is_refused() {
    for (endpoint, body) in [
        (ChatCompletions, r#"{"model":"m","messages":[]}"#.to_owned()),
        (ChatCompletions, r#"{"model":"m","messages":{}}"#.to_owned()),
        (ChatCompletions, r#"{"model":"m","messages":"Hi"}"#.to_owned()),
        (ChatCompletions, r#"{"model":"m","messages":["Hi"]}"#.to_owned()),
        (ChatCompletions, r#"{"model":"m","input":"Hi"}"#.to_owned()),
        (Embeddings, r#"{"model":"m","messages":[{}]}"#.to_owned()),
        (Embeddings, embed("[]")),
        (Embeddings, embed(r#""""#)),
        (Embeddings, embed("{}")),
        (Embeddings, embed("1")),
        (Embeddings, embed("null")),
        (Embeddings, embed("[[]]")),
        (Embeddings, embed(r#"["a",""]"#)),
        (Embeddings, embed(r#"["a",1]"#)),
        (Embeddings, embed(r#"[[1],2]"#)),
        (Embeddings, embed("[{}]")),
        (Embeddings, embed("[-1]")),
        (Embeddings, embed("[[1.5]]")),
        (Embeddings, embed(r#"[["a"]]"#)),
    ] {
        let error = Call::parse(endpoint, &body).unwrap_err();
        assert!(matches!(error, BadCall::Value { .. } | BadCall::Missing(_)), "{body}: {error}");
    }
    let error = Call::parse(ChatCompletions, r#"{"model":"m","messages":[]}"#).unwrap_err();
    assert_eq!(error.to_string(), "messages is empty; it must be an array of at least one message");
}

#[test]
fn a_body_is_an_object_with_a_models_name() {
    let refused = |body: &str| Call::parse(Embeddings, body).unwrap_err().to_string();
    assert_eq!(refused(r#"["m","x"]"#), "it is an array; it must be an object");
    assert_eq!(refused(r#"{"input":"x"}"#), "missing field `model`");
    assert_eq!(refused(r#"{"model":null,"input":"x"}"#), "model is null; it must be the name of a model");
    assert!(refused(r#"{"model":"","input":"x"}"#).contains("the name of a model"));
    assert!(refused(r#"{"model":5,"input":"x"}"#).starts_with("model is 5;"));
    assert!(refused("{\"model\":\"m\"").starts_with("not JSON: the text ends too early"));
    let body = r#"{"mod\u0065l":"caf\u00e9","input":"x"}"#;
    assert_eq!(Call::parse(Embeddings, body).unwrap().model, "café");
}

#[test]
fn images_count_by_a_rule_and_not_by_their_bytes() {
    let photo = "A".repeat(400_000);
    let part = |url: &str, detail: &str| format!(r#"{{"type":"image_url","image_url":{{"url":"{url}"{detail}}}}}"#);
    let content = |parts: &str| format!(r#"{{"model":"m","messages":[{{"role":"user","content":[{parts}]}}]}}"#);
    let data = format!("data:image/jpeg;base64,{photo}");
    let one = input(ChatCompletions, &content(&part(&data, "")));
    assert_eq!((one.images, one.low_images), (1, 0));
    assert!(one.tokens(ImageRule::OTHERS) < 5_000, "{one:?}");
    let low = input(ChatCompletions, &content(&part(&data, r#","detail":"low""#)));
    assert_eq!((low.images, low.low_images), (0, 1));
    let remote = input(ChatCompletions, &content(&part("https://example.com/a.png", "")));
    assert_eq!(remote.images, 1);
    let escaped = input(ChatCompletions, &content(&part(&data.replace('/', "\\/"), "")));
    assert_eq!(escaped.text_bytes, one.text_bytes + "\\".len());
    let words = input(ChatCompletions, &content(&part(&"w ".repeat(200_000), "")));
    assert!(words.text_bytes > 400_000, "what is no base64 counts as text");
    let plain = r#"{"model":"m","messages":[{"role":"user","content":"data:image/png;base64,AAAA"}]}"#;
    assert_eq!(input(ChatCompletions, plain).images, 0);
}

#[test]
fn sound_and_files_count_by_a_bound() {
    let payload = "A".repeat(64_000);
    let with = |part: &str| {
        let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":[{part}]}}]}}"#);
        input(ChatCompletions, &body)
    };
    let sound = |format: &str| {
        with(&format!(r#"{{"type":"input_audio","input_audio":{{"data":"{payload}","format":"{format}"}}}}"#))
    };
    assert_eq!((sound("mp3").other, sound("wav").other), (2_001, 251));
    assert!(sound("mp3").text_bytes < 200);
    let file = with(&format!(
        r#"{{"type":"file","file":{{"filename":"a.pdf","file_data":"data:application/pdf;base64,{payload}"}}}}"#
    ));
    assert_eq!(file.other, 16_000);
    assert_eq!(with(r#"{"type":"file","file":{"file_id":"file-1"}}"#).other, media::REMOTE_MEDIA);
    let video = with(r#"{"type":"video_url","video_url":{"url":"https://example.com/a.mp4"}}"#);
    assert_eq!(video.other, media::REMOTE_MEDIA);
}

#[test]
fn lines_are_taken_or_refused_with_a_reason() {
    let body = embed(r#""hello""#);
    let line = |method: &str, url: &str, body: &str| line("a", method, url, body);
    assert!(RequestLine::parse(line("POST", "/v1/embeddings", &body).as_bytes()).is_ok());
    assert!(RequestLine::parse(line("post", "/v1/embeddings", &body).as_bytes()).is_ok());
    assert!(refused(&line("GET", "/v1/embeddings", &body)).contains("method is \"GET\""));
    assert!(refused(&line("POST", "/v1/images", &body)).contains("url is \"/v1/images\""));
    assert_eq!(refused(&line("POST", "/v1/chat/completions", &body)), "body: missing field `messages`");
    assert!(refused(&line("POST", "/v1/chat/completions", &chat(r#","stream":true"#))).contains("streamed"));
    assert!(
        refused(&line("POST", "/v1/chat/completions", &chat(r#","max_tokens":0"#)))
            .starts_with("body: max_tokens is 0")
    );
    assert!(refused(&super::tests::line("", "POST", "/v1/embeddings", &body)).contains("custom_id is empty"));
    assert!(
        refused(r#"{"custom_id":"a","method":"POST","url":"/v1/embeddings","body":{},"extra":1}"#)
            .contains("unknown field \"extra\"")
    );
    assert_eq!(refused(r#"{"custom_id":"a"}"#), "not a request line: missing field `method`");
    assert!(
        refused(r#"{"custom_id":7,"method":"POST","url":"/v1/embeddings","body":{}}"#)
            .contains("custom_id is a number")
    );
    assert!(refused(r#"{"custom_id":"a","custom_id":"b","method":"POST"}"#).contains("twice"));
}

#[test]
fn members_may_stand_in_any_order() {
    let text = r#"{"body":{"input":"x","model":"m"},"url":"/v1/embeddings","method":"POST","custom_id":"a"}"#;
    let line = RequestLine::parse(text.as_bytes()).unwrap();
    assert_eq!((&*line.custom_id, &*line.call.model, line.body), ("a", "m", r#"{"input":"x","model":"m"}"#));
    let spaced =
        r#" { "custom_id" : "a", "method":"POST","url":"/v1/embeddings","body": { "model" : "e5",  "input":["x"] } } "#;
    assert_eq!(RequestLine::parse(spaced.as_bytes()).unwrap().body, r#"{ "model" : "e5",  "input":["x"] }"#);
}

#[test]
fn what_is_no_object_is_refused_as_what_it_is() {
    let text = line("a", "POST", "/v1/embeddings", r#""{\"model\":\"m\"}""#);
    assert_eq!(refused(&text), "body is a string; it must be an object; write its JSON without the quotes around it");
    assert_eq!(refused(&line("a", "POST", "/v1/embeddings", r#"["m","x"]"#)), "body is an array; it must be an object");
    let array = r#"["a","POST","/v1/embeddings",{"model":"m","input":"x"}]"#;
    assert!(refused(array).starts_with("the line is an array; it must be an object {\"custom_id\""));
    assert!(refused("\"text\"").starts_with("the line is a string;"));
    assert!(refused("7 8").starts_with("not a request line: "));
}

#[test]
fn a_file_in_another_form_is_named() {
    let utf16 = |text: &str, mark: &[u8], big: bool| {
        let units = text.encode_utf16().flat_map(|unit| if big { unit.to_be_bytes() } else { unit.to_le_bytes() });
        mark.iter().copied().chain(units).collect::<Vec<u8>>()
    };
    for bytes in [
        utf16("{\"a\":1}", &[0xff, 0xfe], false),
        utf16("{\"a\":1}", &[0xfe, 0xff], true),
        utf16("{\"a\":1}", &[], false),
        utf16("{\"a\":1}", &[], true),
    ] {
        let error = RequestLine::parse(&bytes).unwrap_err().to_string();
        assert_eq!(error, "the file is UTF-16; save it as UTF-8");
    }
    for array in ["[", "[ ", "[]", r#"[{"custom_id":"a"},"#, r#"[{"custom_id":"a"}]"#] {
        assert!(refused(array).contains("one JSON array; write one object a line"), "{array}");
    }
    for pretty in ["{", r#"{"custom_id": "a","#, "  \"method\": \"POST\",", "}", "  \"body\": {"] {
        assert!(refused(pretty).contains("write each on one line"), "{pretty}: {}", refused(pretty));
    }
    assert!(!refused("nonsense").contains("write each"));
    let latin = [b"{\"custom_id\":\"caf", &[0xe9][..], b"\"}"].concat();
    assert!(RequestLine::parse(&latin).unwrap_err().to_string().contains("not UTF-8 from column 18 on"));
}

#[test]
fn urls_are_what_they_obviously_are() {
    for url in [
        "/v1/chat/completions",
        "/chat/completions",
        "chat/completions",
        "/v1/chat/completions/",
        "v1/chat/completions",
        "/v1/chat/completions?api-version=2024-10-21",
        "/openai/deployments/gpt-4o/chat/completions?api-version=1",
        "/openai/v1/chat/completions",
        "https://api.openai.com/v1/chat/completions",
        "/deployments/x/chat/completions",
        "/v1beta/openai/chat/completions",
    ] {
        assert_eq!(endpoint_of(url), Some(ChatCompletions), "{url}");
    }
    for url in ["/v1/embeddings", "/embeddings", "/embeddings/", "/v1/embeddings#x", "/openai/deployments/e/embeddings"]
    {
        assert_eq!(endpoint_of(url), Some(Embeddings), "{url}");
    }
    for url in [
        "",
        "/",
        "/v1",
        "/v1/images",
        "/v1/completions",
        "/v1/xembeddings",
        "/v1/images/embeddings",
        "ftp://x/v1/embeddings",
        "/é1/embeddings",
    ] {
        assert_eq!(endpoint_of(url), None, "{url}");
    }
}
