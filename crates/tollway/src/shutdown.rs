//! A signal asks the process to end in order; a second one does not ask.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Cancelled by the first SIGINT, SIGTERM or SIGHUP (a terminal that was closed). The second ends the process at once; an
/// embedded database then goes on, and the next `dev` adopts it.
pub fn on_signal() -> std::io::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let mut signals = [
        (signal(SignalKind::interrupt())?, 130),
        (signal(SignalKind::terminate())?, 143),
        (signal(SignalKind::hangup())?, 129),
    ];
    let told = stop.clone();
    tokio::spawn(async move {
        loop {
            let [interrupt, terminate, hangup] = &mut signals;
            let code = tokio::select! {
                _ = interrupt.0.recv() => interrupt.1,
                _ = terminate.0.recv() => terminate.1,
                _ = hangup.0.recv() => hangup.1,
            };
            if told.is_cancelled() {
                std::process::exit(code);
            }
            told.cancel();
        }
    });
    Ok(stop)
}
