//! The events of a streamed chat answer.
//!
//! In order: the role, the text in `stream_chunks` pieces, the finish reason, the usage if it was asked for (in an event
//! whose `choices` is empty), and `[DONE]`.

use super::chat::ChatAnswer;
use super::push;
use crate::config::Config;
use crate::tokens::Tokens;

/// The events of an answer, and how many of them were given.
pub enum Events {
    Text(TextEvents),
    /// Made beforehand, each with the completion tokens given with it.
    Made {
        events: Vec<(Vec<u8>, u64)>,
        prompt: u64,
        next: usize,
    },
}

impl Events {
    pub fn new(answer: &ChatAnswer<'_>, wants_usage: bool, config: &Config, filler: &str) -> Self {
        Self::Text(TextEvents::new(answer, wants_usage, config, filler))
    }

    /// All events, the last one included.
    pub fn count(&self) -> usize {
        match self {
            Self::Text(text) => text.count(),
            Self::Made { events, .. } => events.len(),
        }
    }

    /// Events given out so far.
    pub fn given(&self) -> usize {
        match self {
            Self::Text(text) => text.next,
            Self::Made { next, .. } => *next,
        }
    }

    /// What the provider bills once the events given out so far are on their way.
    pub fn tokens(&self) -> Tokens {
        match self {
            Self::Text(text) => text.tokens(),
            Self::Made { events, prompt, next } => {
                let last = next.checked_sub(1).and_then(|at| events.get(at));
                Tokens { prompt: *prompt, completion: last.map_or(0, |(_, tokens)| *tokens) }
            }
        }
    }

    /// Appends the next event, unless the last has been given.
    pub fn push_next(&mut self, out: &mut Vec<u8>) {
        match self {
            Self::Text(text) => text.push_next(out),
            Self::Made { events, next, .. } => {
                if let Some((event, _)) = events.get(*next) {
                    out.extend_from_slice(event);
                    *next += 1;
                }
            }
        }
    }
}

/// A script of events; each is made when it is due.
pub struct TextEvents {
    /// `data: {"id":…,"model":…` up to the comma before `choices`.
    head: Vec<u8>,
    /// Goes after `choices` in all events but the usage's own, when usage was asked for.
    no_usage: &'static str,
    text: String,
    pieces: usize,
    finish_reason: &'static str,
    usage: Option<Vec<u8>>,
    tokens: Tokens,
    next: usize,
}

impl TextEvents {
    fn new(answer: &ChatAnswer<'_>, wants_usage: bool, config: &Config, filler: &str) -> Self {
        let mut head = b"data: ".to_vec();
        answer.push_head("chat.completion.chunk", &mut head);
        head.extend_from_slice(br#","service_tier":"default","system_fingerprint":"fp_simulator""#);
        let length = config.answer_bytes.unwrap_or(answer.natural_length());
        let mut usage = Vec::new();
        answer.push_usage(&mut usage);
        Self {
            head,
            no_usage: if wants_usage { r#","usage":null"# } else { "" },
            text: answer.text(length, filler),
            pieces: config.stream_chunks,
            finish_reason: answer.finish_reason,
            usage: wants_usage.then_some(usage),
            tokens: answer.tokens,
            next: 0,
        }
    }

    /// All events, `[DONE]` included.
    fn count(&self) -> usize {
        self.pieces + 3 + usize::from(self.usage.is_some())
    }

    fn tokens(&self) -> Tokens {
        let pieces = self.next.saturating_sub(1).min(self.pieces) as u64;
        Tokens { prompt: self.tokens.prompt, completion: self.tokens.completion * pieces / self.pieces as u64 }
    }

    /// Appends the next event, unless `[DONE]` has been given.
    fn push_next(&mut self, out: &mut Vec<u8>) {
        let at = self.next;
        self.next = (at + 1).min(self.count());
        if at + 1 == self.count() {
            return out.extend_from_slice(b"data: [DONE]\n\n");
        } else if at >= self.count() {
            return;
        }
        out.extend_from_slice(&self.head);
        if at == 0 {
            self.push_choice(out, format_args!(r#"{{"role":"assistant","content":"","refusal":null}}"#), None);
        } else if at <= self.pieces {
            let piece = self.piece(at - 1);
            self.push_choice(out, format_args!(r#"{{"content":"{piece}"}}"#), None);
        } else if at == self.pieces + 1 {
            self.push_choice(out, format_args!("{{}}"), Some(self.finish_reason));
        } else if let Some(usage) = &self.usage {
            out.extend_from_slice(br#","choices":[],"usage":"#);
            out.extend_from_slice(usage);
        }
        out.extend_from_slice(b"}\n\n");
    }

    fn push_choice(&self, out: &mut Vec<u8>, delta: std::fmt::Arguments<'_>, finish: Option<&str>) {
        let (quote, reason) = finish.map_or(("", "null"), |reason| ("\"", reason));
        push(
            out,
            format_args!(
                r#","choices":[{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{quote}{reason}{quote}}}]{}"#,
                self.no_usage
            ),
        );
    }

    /// Piece `n` of the text, cut as evenly as whole bytes allow; the text is ASCII.
    fn piece(&self, n: usize) -> &str {
        let at = |n| self.text.len() * n / self.pieces;
        &self.text[at(n)..at(n + 1)]
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::deployment::Plan;
    use crate::wire::request::ChatRequest;

    const BODY: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;

    fn events(wants_usage: bool) -> Events {
        let config = Config { stream_chunks: 3, ..Config::default() };
        let request = ChatRequest::parse(BODY.as_bytes()).expect("sound");
        let plan = Plan::new(config.clone(), 0);
        let answer = ChatAnswer::new(1, 0, &request, BODY.len(), &config);
        Events::new(&answer, wants_usage, &config, &plan.filler)
    }

    fn play(mut events: Events) -> Vec<Value> {
        let mut out = Vec::new();
        (0..events.count() + 2).for_each(|_| events.push_next(&mut out));
        let text = String::from_utf8(out).expect("UTF-8");
        let data: Vec<&str> = text.split_terminator("\n\n").collect();
        let (done, rest) = data.split_last().expect("events");
        assert_eq!(*done, "data: [DONE]");
        rest.iter()
            .map(|event| serde_json::from_str(event.strip_prefix("data: ").expect("data")).expect("JSON"))
            .collect()
    }

    #[test]
    fn the_pieces_make_up_the_text_and_the_finish_reason_follows() {
        let all = play(events(false));
        assert_eq!(all.len(), 5);
        assert_eq!(all[0]["choices"][0]["delta"]["role"], "assistant");
        let text: String = all.iter().filter_map(|e| e["choices"][0]["delta"]["content"].as_str()).collect();
        assert_eq!(text.len(), 64);
        assert!(text.starts_with(&crate::chat_echo(r#"[{"role":"user","content":"hi"}]"#)));
        assert_eq!(all[4]["choices"][0]["finish_reason"], "stop");
        assert!(all.iter().all(|e| e.get("usage").is_none()));
    }

    #[test]
    fn usage_comes_last_with_no_choices_and_is_null_before() {
        let all = play(events(true));
        let (last, before) = all.split_last().expect("events");
        assert_eq!(last["choices"], Value::Array(Vec::new()));
        assert_eq!(last["usage"]["completion_tokens"], 16);
        assert!(before.iter().all(|e| e.get("usage") == Some(&Value::Null)));
    }

    #[test]
    fn a_stream_bills_what_it_has_said() {
        let mut events = events(true);
        let billed: Vec<u64> = (0..events.count())
            .map(|_| {
                events.push_next(&mut Vec::new());
                events.tokens().completion
            })
            .collect();
        assert_eq!(billed, [0, 5, 10, 16, 16, 16, 16]);
    }
}
