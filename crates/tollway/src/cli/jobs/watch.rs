//! `tollway jobs watch`, and `submit --watch`: progress until the end. A gateway that restarts in between is waited for.

use std::time::{Duration, Instant};

use domain::{JobId, job::Progress};
use futures::StreamExt;
use reqwest::{Method, header};

use super::{
    events::{Event, Events},
    screen::Screen,
};
use crate::cli::{Common, Exit, Failure, Outcome, client::Client, output::note};

/// How long a gateway may be away.
const RECONNECT_TIMEOUT: Duration = Duration::from_secs(120);
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// The exit code says how the job ended.
pub async fn run(client: &Client, id: JobId, common: &Common) -> Outcome {
    tokio::select! {
        ended = follow(client, id, common) => ended,
        stopped = tokio::signal::ctrl_c() => {
            stopped?;
            note(format_args!("\nThe job goes on. Watch it again: tollway jobs watch {id}"));
            Ok(Exit::Interrupted)
        }
    }
}

async fn follow(client: &Client, id: JobId, common: &Common) -> Outcome {
    let mut screen = Screen::new(common.output);
    let mut last_id: Option<String> = None;
    let mut alive = Instant::now();
    loop {
        let mut request = client
            .request(Method::GET, &format!("api/v1/jobs/{id}/events"))
            .header(header::ACCEPT, "text/event-stream");
        if let Some(last_id) = &last_id {
            request = request.header("last-event-id", last_id);
        }
        let broken = match client.send(request).await {
            Ok(response) => {
                alive = Instant::now();
                let mut events = Events::default();
                let mut pieces = response.bytes_stream();
                let mut broken = None;
                while let Some(piece) = pieces.next().await {
                    let piece = match piece {
                        Ok(piece) => piece,
                        Err(error) => {
                            broken = Some(client.unreachable(&error));
                            break;
                        }
                    };
                    alive = Instant::now();
                    for event in events.push(&piece) {
                        last_id = event.id.clone().or(last_id);
                        if take(&event, &mut screen)? == Told::End {
                            let job = client.get(&format!("api/v1/jobs/{id}"), &()).await?;
                            return screen.end(&job);
                        }
                    }
                }
                broken
            }
            Err(failure) if failure.exit == Exit::Unavailable => Some(failure),
            Err(failure) => return Err(failure),
        };
        if alive.elapsed() > RECONNECT_TIMEOUT {
            let gone =
                || Failure::new(Exit::Unavailable, format_args!("{} tells nothing more of the job", client.base()));
            return Err(broken.unwrap_or_else(gone).hint(format_args!("Watch it again: tollway jobs watch {id}")));
        }
        screen.lost();
        tokio::time::sleep(RETRY_INTERVAL).await;
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Progress,
    End,
}

fn take(event: &Event, screen: &mut Screen) -> Outcome<Told> {
    if !matches!(event.name.as_str(), "progress" | "end") {
        return Ok(Told::Progress);
    }
    let progress: Progress = serde_json::from_str(&event.data).map_err(|error| {
        Failure::new(Exit::Failed, format_args!("the gateway sent progress that cannot be read: {error}"))
    })?;
    if event.name == "end" {
        return Ok(Told::End);
    }
    screen.show(&progress)?;
    Ok(Told::Progress)
}
