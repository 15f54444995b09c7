//! The provider's side: a call comes in, meets its fate, and is answered accordingly.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CACHE_CONTROL, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response};

use crate::anthropic::{self, Message, MessagesRequest};
use crate::call::Call;
use crate::deployment::{Deployment, Plan};
use crate::fault_plan::{self, Fault};
use crate::incoming::{self, Unreadable};
use crate::journal::{Endpoint, Outcome};
use crate::reply::{self, CutBody, EventBody, Reply, SocketEnd};
use crate::sim::Sim;
use crate::timer;
use crate::tokens::{Tokens, prompt_tokens};
use crate::wire::chat::ChatAnswer;
use crate::wire::refusal::Refusal;
use crate::wire::request::{ChatRequest, EmbeddingRequest};
use crate::wire::shape::Shape;
use crate::wire::shaped::Shaped;
use crate::wire::stream::Events;
use crate::wire::{embeddings, models};

/// A request that can be answered.
enum Ask<'a> {
    Chat(ChatRequest<'a>, Option<Box<Shape>>),
    Messages(MessagesRequest<'a>),
    Embeddings(EmbeddingRequest<'a>),
    Models,
}

/// What is answered where nothing goes wrong.
enum Answer {
    Whole(Vec<u8>, Tokens),
    Stream(Events),
}

pub fn endpoint(path: &str) -> Endpoint {
    match path {
        "chat/completions" => Endpoint::Chat,
        "messages" => Endpoint::Messages,
        "embeddings" => Endpoint::Embeddings,
        "models" => Endpoint::Models,
        _ => Endpoint::Other,
    }
}

pub async fn answer(
    sim: Arc<Sim>,
    deployment: Arc<Deployment>,
    endpoint: Endpoint,
    request: Request<Incoming>,
) -> Response<Reply> {
    let (head, body) = request.into_parts();
    let refuse = |call, refusal: &Refusal| refuse(call, refusal, endpoint);
    let mut call = Call::arrive(&sim, &deployment, endpoint, &head.headers);
    let body = match incoming::read(body).await {
        Ok(body) => body,
        Err(Unreadable::TooLarge) => {
            return refuse(call, &Refusal::new(413, "invalid_request_error", "The body is over 64 MiB"));
        }
        // Nobody is there to read it; dropping the call books that.
        Err(Unreadable::Gone) => return reply::json(400, Bytes::new()),
    };
    let plan = deployment.plan();
    let ask = match parse(endpoint, &head, &body, &plan) {
        Ok(ask) => ask,
        Err(refusal) => return refuse(call, &refusal),
    };
    call.parsed(ask.model());

    let mut rng = deployment.rng(&plan);
    let fault = fault_plan::decide(&deployment, &plan, &mut rng, sim.journal.now_us());
    if let Fault::Throttle { status, retry_after_s } = fault {
        return refuse(call, &Refusal::throttled(status, retry_after_s));
    }
    if fault == Fault::Hang {
        call.hang();
        match pending::<Infallible>().await {}
    }
    let wait = plan.config.latency.sample(&mut rng);
    if !wait.is_zero() {
        timer::sleep(wait).await;
    }
    match fault {
        Fault::ServerError => refuse(call, &Refusal::server_error()),
        Fault::Garbage => rubbish(call, ask.content_type(), ask.garbage()),
        Fault::WrongType => rubbish(call, "text/html; charset=utf-8", PROXY_PAGE),
        _ => {
            let answer = ask.answer(&call, sim.journal.now_us(), body.len(), &plan);
            send(call, ask.content_type(), answer, fault, &plan)
        }
    }
}

const PROXY_PAGE: &[u8] = b"<!doctype html><title>Please wait</title><h1>Checking your connection</h1>\n";

fn parse<'a>(endpoint: Endpoint, head: &Parts, body: &'a [u8], plan: &Plan) -> Result<Ask<'a>, Refusal> {
    if let Some(key) = &plan.config.require_key {
        let sent = match endpoint {
            // Anthropic has a list of models at the same path.
            Endpoint::Messages | Endpoint::Models => anthropic::key(&head.headers),
            _ => bearer(&head.headers),
        };
        if sent != Some(key) {
            return Err(Refusal::wrong_key());
        }
    }
    match (endpoint, &head.method) {
        (Endpoint::Chat, &Method::POST) => {
            let request = ChatRequest::parse(body)?;
            let shape = request.shape()?.map(Box::new);
            Ok(Ask::Chat(request, shape))
        }
        (Endpoint::Messages, &Method::POST) => {
            anthropic::check_version(&head.headers)?;
            MessagesRequest::parse(body).map(Ask::Messages)
        }
        (Endpoint::Embeddings, &Method::POST) => EmbeddingRequest::parse(body).map(Ask::Embeddings),
        (Endpoint::Models, &Method::GET) => Ok(Ask::Models),
        (Endpoint::Chat | Endpoint::Messages | Endpoint::Embeddings, _) => Err(Refusal::method("POST")),
        (Endpoint::Models, _) => Err(Refusal::method("GET")),
        (Endpoint::Other, _) => Err(Refusal::not_found(head.uri.path())),
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

impl Ask<'_> {
    fn model(&self) -> &str {
        match self {
            Ask::Chat(request, _) => &request.model,
            Ask::Messages(request) => &request.model,
            Ask::Embeddings(request) => &request.model,
            Ask::Models => "",
        }
    }

    fn is_streamed(&self) -> bool {
        match self {
            Ask::Chat(request, _) => request.is_streamed(),
            Ask::Messages(request) => request.is_streamed(),
            Ask::Embeddings(_) | Ask::Models => false,
        }
    }

    fn content_type(&self) -> &'static str {
        if self.is_streamed() { "text/event-stream" } else { reply::JSON }
    }

    /// Of the promised type, but not readable as such.
    fn garbage(&self) -> &'static [u8] {
        if self.is_streamed() {
            b"data: {\"id\":\"chatcmpl-sim\",\"choices\":[{\"index\":0,\"delta\":{\"conte\n\ndata: [DONE]\n\n"
        } else {
            b"{\"id\":\"sim\",\"object\":\"list\",\"data\":[{\"index\":0,\xff\xfe\x00 out of tape"
        }
    }

    fn answer(&self, call: &Call, now_us: u64, body_len: usize, plan: &Plan) -> Answer {
        let (config, filler) = (&plan.config, &*plan.filler);
        match self {
            Ask::Chat(request, Some(shape)) => {
                let answer = ChatAnswer::new(call.seq, now_us, request, body_len, config);
                let shaped = Shaped::new(answer, request, shape, config, filler);
                if request.is_streamed() {
                    let events = shaped.events(request.wants_usage(), config.stream_chunks);
                    return Answer::Stream(Events::Made { events, prompt: shaped.tokens().prompt, next: 0 });
                }
                Answer::Whole(shaped.body(), shaped.tokens())
            }
            Ask::Chat(request, None) => {
                let answer = ChatAnswer::new(call.seq, now_us, request, body_len, config);
                if request.is_streamed() {
                    return Answer::Stream(Events::new(&answer, request.wants_usage(), config, filler));
                }
                Answer::Whole(answer.body(config, filler), answer.tokens)
            }
            Ask::Messages(request) => {
                let message = Message::new(call.seq, now_us, request, body_len, config, filler);
                let tokens = message.tokens();
                if request.is_streamed() {
                    let events = message.events(config.stream_chunks);
                    return Answer::Stream(Events::Made { events, prompt: tokens.prompt, next: 0 });
                }
                Answer::Whole(message.body(), tokens)
            }
            Ask::Embeddings(request) => {
                let prompt = prompt_tokens(body_len);
                let tokens = Tokens { prompt, completion: 0 };
                Answer::Whole(embeddings::body(request, prompt, plan), tokens)
            }
            Ask::Models => Answer::Whole(models::body(&config.models), Tokens::default()),
        }
    }
}

/// Sends an answer, or half of it where that is its fate.
fn send(mut call: Call, content_type: &'static str, answer: Answer, fault: Fault, plan: &Plan) -> Response<Reply> {
    let seq = call.seq;
    let reply = match answer {
        Answer::Whole(body, tokens) if fault == Fault::Cut => {
            let part = Bytes::copy_from_slice(&body[..body.len() / 2]);
            call.sent(200, tokens, part.len());
            Reply::Cut(Box::new(CutBody { part, total: body.len() as u64, end: SocketEnd::of(call) }))
        }
        Answer::Whole(body, tokens) => {
            call.sent(200, tokens, body.len());
            call.finish(Outcome::Ok);
            Reply::Whole(body.into())
        }
        Answer::Stream(events) => {
            let after = events.count() / 2;
            call.sent(200, Tokens::default(), 0);
            Reply::Events(Box::new(EventBody {
                cut: (fault == Fault::Cut).then(|| (after, SocketEnd::default())),
                pace: Duration::from_secs_f64(plan.config.stream_pace_ms / 1_000.0),
                pause: None,
                call: Some(call),
                bytes: 0,
                events,
            }))
        }
    };
    let mut response = reply::response(200, content_type, reply);
    if matches!(response.body(), Reply::Events(_)) {
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    }
    with_id(response, seq)
}

fn rubbish(mut call: Call, content_type: &'static str, body: &'static [u8]) -> Response<Reply> {
    let seq = call.seq;
    call.sent(200, Tokens::default(), body.len());
    call.finish(Outcome::Error);
    let reply = Reply::Whole(Bytes::from_static(body));
    with_id(reply::response(200, content_type, reply), seq)
}

fn refuse(mut call: Call, refusal: &Refusal, endpoint: Endpoint) -> Response<Reply> {
    let seq = call.seq;
    let mut response = reply::refusal(refusal);
    if endpoint == Endpoint::Messages {
        *response.body_mut() = Reply::Whole(anthropic::error_body(refusal).into());
    }
    if let Reply::Whole(body) = response.body() {
        call.sent(refusal.status, Tokens::default(), body.len());
    }
    call.finish(match refusal.status {
        429 | 529 => Outcome::Throttled,
        _ => Outcome::Error,
    });
    with_id(response, seq)
}

/// The provider's own name for a call, as OpenAI sends it: the journal's number.
fn with_id(mut response: Response<Reply>, seq: u64) -> Response<Reply> {
    const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
    let id = Bytes::from(format!("req_sim{seq:012x}"));
    if let Ok(id) = HeaderValue::from_maybe_shared(id) {
        response.headers_mut().insert(X_REQUEST_ID, id);
    }
    response
}
