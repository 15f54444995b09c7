//! Log lines go to standard error: for people on a terminal, as JSON elsewhere. `TOLLWAY_LOG` takes a filter such as
//! `debug` or `engine=debug,warn`.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// What is worth a line when nobody asked for more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verbosity {
    /// A command that ends by itself: its errors are its own output.
    Command,
    /// `dev`: what a developer has to know.
    Warnings,
    /// `serve`: what an operator wants to look up later.
    Operation,
}

pub fn start(verbosity: Verbosity) {
    let default = match verbosity {
        Verbosity::Command => "error",
        // A database that was restarted makes every connection late; once is told by who restarted it.
        Verbosity::Warnings => "warn,sqlx::pool=error,sqlx_core::pool=error",
        Verbosity::Operation => "warn,tollway=info,gateway=info,engine=info,lake=info,store=info",
    };
    let filter = EnvFilter::try_from_env("TOLLWAY_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Only the first subscriber of a process counts.
    let _ = if std::io::stderr().is_terminal() {
        lines.with_target(false).try_init()
    } else {
        lines.json().flatten_event(true).try_init()
    };
}
