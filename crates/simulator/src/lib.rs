//! A provider that answers, waits, fails and bills on command.
//!
//! Tests, benchmarks and rehearsals need a provider that can be told to be slow, to throttle, to hang or to break off in
//! the middle of an answer, and that remembers every call, so that what a gateway claims to have paid can be held against
//! what was really called. [`serve`] is such a provider:
//!
//! ```no_run
//! # async fn start() -> std::io::Result<()> {
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:8788").await?;
//! let config = simulator::Config { hang_rate: 0.01, ..Default::default() };
//! simulator::serve(listener, config, std::future::pending()).await
//! # }
//! ```
//!
//! It speaks OpenAI's wire, and Anthropic's, over plain HTTP:
//!
//! | Call | Answer |
//! |---|---|
//! | `POST /v1/chat/completions` | text, whole or as a stream of events (`stream`, `stream_options.include_usage`); `n` choices, a call of a tool, JSON of a schema, log probabilities where they are asked for |
//! | `POST /v1/messages` | the same as Anthropic's message, whole or in events: text, a use of a tool, JSON of a schema |
//! | `POST /v1/embeddings` | vectors of length one, a function of each input ([`embedding`]), as floats or base64 |
//! | `GET /v1/models` | the configured names; calls may name any model |
//!
//! **One process, many providers.** `/d/NAME/v1/…` is the deployment NAME, with its own [`Config`], throttle windows and
//! counts; plain `/v1/…` is the deployment `default`. A name used for the first time starts with the configuration that
//! [`serve`] was given, so a base URL is all that a new provider takes.
//!
//! **Steering while it runs**, by JSON, without a key (listen on a private address):
//!
//! | Call | Effect |
//! |---|---|
//! | `GET`, `PUT`, `PATCH /sim/config` | shows, replaces, or changes some fields of `default`'s [`Config`] |
//! | the same at `/sim/d/NAME/config` | of another deployment's |
//! | `POST /sim/outage` | `{"status": 529, "for_ms": 2000}` refuses calls from now on; also `retry_after_s`, `share`, `deployment` |
//! | `POST /sim/reset` | start configuration, empty journal; `?only=config` or `?only=journal` for one of them |
//! | `GET /sim/journal` | every call as a line of JSON ([`JournalLine`]), in order of arrival; `?from=SEQ` |
//! | `GET /sim/stats` | [`Stats`]: counts by status and outcome, calls in flight, repeated request ids, tokens |
//!
//! **The journal is the ground truth.** A call is booked when its head arrives, under the `x-client-request-id` it carries,
//! and its end before the answer's last byte leaves; so whoever has an answer finds its call ended. A call that the
//! client gave up is booked as such the moment its socket closes. With `journal_path` the journal outlives the process.
//!
//! **What can be recomputed.** A call costs [`prompt_tokens`] of its body's length, and `answer_tokens` (or the request's
//! own maximum) for each choice of the answer; a call of a tool and JSON cost a token for every four bytes begun. A chat answer begins with [`chat_echo`] of the request's messages. Chance is drawn from
//! `seed` and the number of the call in its deployment, so one caller at a time meets the same fates in every run.
//!
//! The source, in the order a call takes: `server` (socket, paths), `provider` (the call's way), `fault_plan` (what becomes of it),
//! `wire` and `anthropic` (what is read and written), `reply` (bodies, and how they are cut), and `journal`. `steer` changes its behaviour while it runs.

#![warn(clippy::unwrap_used)]

mod anthropic;
mod call;
mod clock;
mod config;
mod deployment;
mod fault_plan;
mod incoming;
mod journal;
mod latency;
mod provider;
mod reply;
mod rng;
mod server;
mod sim;
mod steer;
mod sync;
mod timer;
mod tokens;
mod vectors;
mod wire;

pub use config::{Config, ConfigError, Throttle};
pub use journal::{Counts, Endpoint, JournalLine, Outcome, Stats};
pub use latency::Latency;
pub use server::serve;
pub use tokens::prompt_tokens;
pub use vectors::embedding;
pub use wire::chat::chat_echo;
