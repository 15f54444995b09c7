//! The first signal begins an orderly shutdown; the second one ends the process at once.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Cancelled by the first SIGINT, SIGTERM or SIGHUP (a terminal that was closed). The second ends the process at once; an
/// embedded database then goes on, and the next `dev` adopts it.
pub fn on_signal() -> std::io::Result<CancellationToken> {
    let (stop, hangup) = but_for_hangup()?;
    on(hangup, 129, stop.clone());
    Ok(stop)
}

/// The same, but SIGHUP is the caller's, as services take it.
pub fn but_for_hangup() -> std::io::Result<(CancellationToken, Signal)> {
    let stop = CancellationToken::new();
    on(signal(SignalKind::interrupt())?, 130, stop.clone());
    on(signal(SignalKind::terminate())?, 143, stop.clone());
    Ok((stop, signal(SignalKind::hangup())?))
}

/// `code` is the exit code of who does not wait.
fn on(mut signal: Signal, code: i32, stop: CancellationToken) {
    tokio::spawn(async move {
        while signal.recv().await.is_some() {
            if stop.is_cancelled() {
                std::process::exit(code);
            }
            stop.cancel();
        }
    });
}
