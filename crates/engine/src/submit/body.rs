//! The upload as lines, whichever of the two forms it has.
//!
//! JSONL: one request a line. The first line may be `{"job":{…}}`. Lines of nothing but white space are passed over wherever
//! they stand, so that files can be joined; errors count them, `item.line` does not. A byte order mark is passed over too.
//!
//! JSON, for few requests: `{"job":{…},"requests":[…]}`, the requests as in JSONL.

use std::ops::Range;

use domain::job::JobParams;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::io::AsyncRead;

use super::{LineError, SubmitError, UploadPosition, source::Source, splitter::Splitter};

/// Lines of nothing but white space in one upload: one for each request that a job can have. They cost what requests cost to find.
const MOST_BLANK: u64 = 5_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Jsonl,
    /// Held in memory, so its size is bounded like that of a synchronous call.
    Json,
}

pub struct Body<R> {
    source: Source<R>,
    lines: Lines,
}

enum Lines {
    Jsonl(Splitter),
    Json(Document),
}

/// One request as it came.
pub struct Line<'a> {
    pub place: UploadPosition,
    pub text: &'a [u8],
}

impl<R: AsyncRead + Unpin> Body<R> {
    /// `longest`: the most bytes of a line.
    pub fn new(source: Source<R>, format: Format, longest: usize) -> Self {
        let lines = match format {
            Format::Jsonl => Lines::Jsonl(Splitter::new(longest)),
            Format::Json => Lines::Json(Document::default()),
        };
        Self { source, lines }
    }

    /// What the upload says of its job. Before the first [`Body::pop`].
    pub async fn params(&mut self) -> Result<JobParams, SubmitError> {
        match &mut self.lines {
            Lines::Jsonl(lines) => first_line(&mut self.source, lines).await,
            Lines::Json(document) => {
                document.text = self.source.read_whole().await?;
                document.parse()
            }
        }
    }

    /// The next request; `None` when [`Body::fill`] must come first.
    pub fn pop(&mut self) -> Result<Option<Line<'_>>, SubmitError> {
        match &mut self.lines {
            Lines::Jsonl(lines) => pop(lines),
            Lines::Json(document) => Ok(document.pop()),
        }
    }

    /// Reads on; false when there was nothing more.
    pub async fn fill(&mut self) -> Result<bool, SubmitError> {
        match &mut self.lines {
            Lines::Jsonl(lines) => fill(&mut self.source, lines).await,
            Lines::Json(_) => Ok(false),
        }
    }

    pub fn source(&mut self) -> &mut Source<R> {
        &mut self.source
    }
}

async fn fill<R: AsyncRead + Unpin>(source: &mut Source<R>, lines: &mut Splitter) -> Result<bool, SubmitError> {
    if lines.ended() {
        return Ok(false);
    }
    if lines.blank() > MOST_BLANK {
        return Err(SubmitError::TooBlank { most: MOST_BLANK });
    }
    let read = source.read(lines.room()).await?;
    lines.fill(read);
    // At the end too: it makes what is left over the last line.
    Ok(true)
}

fn pop(lines: &mut Splitter) -> Result<Option<Line<'_>>, SubmitError> {
    match lines.pop() {
        None => Ok(None),
        Some((number, Ok(text))) => Ok(Some(Line { place: UploadPosition::Line(number), text })),
        Some((number, Err(error))) => {
            Err(SubmitError::Line { place: UploadPosition::Line(number), reason: error.into() })
        }
    }
}

/// Takes the first line out if it is the job's.
async fn first_line<R: AsyncRead + Unpin>(
    source: &mut Source<R>,
    lines: &mut Splitter,
) -> Result<JobParams, SubmitError> {
    loop {
        if let Some(Line { place, text }) = pop(lines)? {
            if let Some(params) = job_line(text) {
                return params.map_err(|reason| SubmitError::Line { place, reason: LineError::Params(reason) });
            }
            lines.unpop();
            return Ok(JobParams::default());
        }
        if !fill(source, lines).await? {
            return Ok(JobParams::default());
        }
    }
}

/// The parameters in `{"job":{…}}`; `None` for any other line.
fn job_line(text: &[u8]) -> Option<Result<JobParams, String>> {
    #[derive(Deserialize)]
    struct Looks<'a> {
        #[serde(borrow)]
        job: Option<&'a RawValue>,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct JobLine {
        job: JobParams,
    }
    wire::object::from_slice::<Looks<'_>>(text).ok()?.job?;
    let line: Result<JobLine, _> = wire::object::from_slice(text);
    Some(line.map(|line| line.job).map_err(|e| e.to_string().replace(" at line 1 column ", " at column ")))
}

/// Why a JSON body is no job.
fn not_a_job(text: &[u8], error: &serde_json::Error) -> SubmitError {
    let reason = match text.trim_ascii_start().first() {
        _ if wire::is_utf16(text) => "it is UTF-16; send it as UTF-8".to_owned(),
        Some(b'[') => "it is a JSON array; send {\"requests\":[…]}, or one object a line as JSONL".to_owned(),
        _ => error.to_string(),
    };
    SubmitError::Document(reason)
}

#[derive(Default)]
struct Document {
    text: Vec<u8>,
    requests: Vec<Range<usize>>,
    given: usize,
}

impl Document {
    fn parse(&mut self) -> Result<JobParams, SubmitError> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Form<'a> {
            #[serde(default)]
            job: JobParams,
            #[serde(borrow)]
            requests: Vec<&'a RawValue>,
        }
        let form: Form<'_> = wire::object::from_slice(&self.text).map_err(|error| not_a_job(&self.text, &error))?;
        let base = self.text.as_ptr().addr();
        let place = |request: &&RawValue| {
            let start = request.get().as_ptr().addr() - base;
            start..start + request.get().len()
        };
        self.requests = form.requests.iter().map(place).collect();
        Ok(form.job)
    }

    fn pop(&mut self) -> Option<Line<'_>> {
        let request = self.requests.get(self.given)?.clone();
        let place = UploadPosition::Request(self.given as u64);
        self.given += 1;
        Some(Line { place, text: &self.text[request] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parameters and requests of an upload, or why it is refused.
    async fn read(format: Format, upload: &[u8]) -> Result<(JobParams, Vec<(UploadPosition, String)>), SubmitError> {
        let mut body = Body::new(Source::open(upload, 1 << 20).await?, format, 1 << 20);
        let params = body.params().await?;
        let mut requests = Vec::new();
        loop {
            while let Some(line) = body.pop()? {
                requests.push((line.place, String::from_utf8(line.text.to_vec()).unwrap()));
            }
            if !body.fill().await? {
                return Ok((params, requests));
            }
        }
    }

    #[tokio::test]
    async fn the_first_line_may_be_the_jobs() {
        let (params, requests) = read(Format::Jsonl, b"\n{\"job\":{\"priority\":7}}\r\n{}\n\n[]").await.unwrap();
        assert_eq!(params.priority, Some(7));
        assert_eq!(requests, [(UploadPosition::Line(3), "{}".into()), (UploadPosition::Line(5), "[]".into())]);

        let (params, requests) = read(Format::Jsonl, b"{\"custom_id\":1}").await.unwrap();
        assert_eq!((params, requests.len()), (JobParams::default(), 1));
        assert_eq!(read(Format::Jsonl, b"").await.unwrap(), (JobParams::default(), vec![]));
    }

    #[tokio::test]
    async fn an_unknown_parameter_is_named_with_its_line() {
        let error = read(Format::Jsonl, b"\n{\"job\":{\"prioritty\":7}}\n{}").await.unwrap_err().to_string();
        assert!(error.starts_with("line 2: job: unknown field `prioritty`"), "{error}");
        assert!(error.ends_with("at column 19"), "{error}");
    }

    #[tokio::test]
    async fn blank_lines_are_passed_over_up_to_a_number() {
        let most = MOST_BLANK as usize;
        for (blank, is_taken) in [(most, true), (most + 200_000, false)] {
            let upload = [b"{}\n".as_slice(), &b"\n".repeat(blank)].concat();
            let source = Source::open(&upload[..], 1 << 30).await.unwrap();
            let mut body = Body::new(source, Format::Jsonl, 8 << 20);
            let ended = async {
                body.params().await?;
                loop {
                    while body.pop()?.is_some() {}
                    if !body.fill().await? {
                        return Ok::<_, SubmitError>(());
                    }
                }
            };
            match ended.await {
                Ok(()) => assert!(is_taken, "{blank}"),
                Err(error) => assert!(!is_taken && matches!(error, SubmitError::TooBlank { .. }), "{error}"),
            }
        }
        // Also ahead of the first request, where the job's own line is looked for.
        let upload = b"\n".repeat(most + 200_000);
        let mut body = Body::new(Source::open(&upload[..], 1 << 30).await.unwrap(), Format::Jsonl, 8 << 20);
        assert!(matches!(body.params().await, Err(SubmitError::TooBlank { .. })));
    }

    #[tokio::test]
    async fn a_json_body_has_the_same_two_parts() {
        let upload = br#"{"job":{"name":"n"},"requests":[{"a":1}, {"b":2} ]}"#;
        let (params, requests) = read(Format::Json, upload).await.unwrap();
        assert_eq!(params.name.as_deref(), Some("n"));
        assert_eq!(
            requests,
            [(UploadPosition::Request(0), r#"{"a":1}"#.into()), (UploadPosition::Request(1), r#"{"b":2}"#.into())]
        );
        for bad in ["{}", "[]", r#"{"requests":[],"more":1}"#, r#"{"requests":[{]}"#] {
            assert!(matches!(read(Format::Json, bad.as_bytes()).await, Err(SubmitError::Document(_))), "{bad}");
        }
    }
}
