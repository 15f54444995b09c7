//! Sends the file as it is read: memory stays flat, and the bar tells how far it is.

use std::{path::Path, time::Duration};

use async_compression::{Level, tokio::bufread::GzipEncoder};
use futures::{StreamExt, TryStreamExt};
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::{Body, Method, header};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, BufReader};
use tokio_util::io::{ReaderStream, StreamReader};

use super::file::{self, Input};
use crate::cli::{Outcome, client::Client};

const PIECE: usize = 256 << 10;

/// What is sent where.
pub struct Upload<'a> {
    pub file: &'a Path,
    pub to: &'static str,
    /// Compress on the way.
    pub gzip: bool,
    pub idempotency_key: Option<&'a str>,
}

/// The gateway's answer: of a submission the job, of a dry run or a quote what it would be.
pub async fn send<T: DeserializeOwned>(
    client: &Client,
    upload: Upload<'_>,
    query: &[(&'static str, String)],
) -> Outcome<T> {
    let Input { reader, bytes, is_gzip } = file::open(upload.file).await?;
    let bar = bar(bytes);
    let counted = {
        let bar = bar.clone();
        ReaderStream::with_capacity(reader, PIECE).inspect_ok(move |piece| bar.inc(piece.len() as u64)).boxed()
    };
    let compress = upload.gzip && !is_gzip;
    let body = if compress {
        let reader: Box<dyn AsyncRead + Send + Unpin> = Box::new(GzipEncoder::with_quality(
            BufReader::with_capacity(PIECE, StreamReader::new(counted)),
            Level::Fastest,
        ));
        Body::wrap_stream(ReaderStream::with_capacity(reader, PIECE))
    } else {
        Body::wrap_stream(counted)
    };
    let mut request = client
        .request(Method::POST, upload.to)
        .query(query)
        .header(header::CONTENT_TYPE, "application/jsonl")
        .body(body);
    if compress || is_gzip {
        request = request.header(header::CONTENT_ENCODING, "gzip");
    }
    if let Some(key) = upload.idempotency_key {
        request = request.header("idempotency-key", key);
    }
    let answer = client.read(request).await;
    bar.finish_and_clear();
    answer
}

/// Drawn on standard error, and only on a terminal.
fn bar(bytes: Option<u64>) -> ProgressBar {
    let (bar, template) = match bytes {
        Some(bytes) => (
            ProgressBar::new(bytes),
            "Submitting {wide_bar} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}",
        ),
        None => (ProgressBar::new_spinner(), "Submitting {spinner} {binary_bytes} {binary_bytes_per_sec}"),
    };
    bar.enable_steady_tick(Duration::from_millis(200));
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
