//! How long a call may take: in all, and between two bytes. Connecting has its own limit, in the connector; what has not gone out a
//! silence after that never will. One timer serves all; it is set again when it rings, not at every byte.

use std::{
    future::Future,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};

use domain::ErrorClass;
use tokio::time::{Instant, Sleep};

use super::send_marker::GoneOut;
use crate::{error::CallError, target::Target};

/// How often to look whether the request has gone out, when connecting takes longer than the silence allowed.
const CONNECT_POLL_INTERVAL: Duration = Duration::from_secs(1);

pub(crate) struct CallTimer {
    started: Instant,
    deadline: Instant,
    /// When the request must have gone out.
    sent_by: Instant,
    silence: Duration,
    gone_out: GoneOut,
    last_byte: Option<Instant>,
    timer: Pin<Box<Sleep>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OutOfTime {
    Unsent,
    Silent,
    Total,
}

impl OutOfTime {
    pub fn into_error(self, target: &Target) -> CallError {
        let name = &target.name;
        match self {
            Self::Unsent => CallError::new(
                ErrorClass::ConnectTimeout,
                format!("no connection to deployment {name} took the request within {:?}", target.sent_within()),
            ),
            Self::Silent => CallError::new(
                ErrorClass::ReadTimeout,
                format!("deployment {name} was silent for {:?} (read_timeout_ms)", target.read_timeout),
            ),
            Self::Total => CallError::new(
                ErrorClass::TotalTimeout,
                format!("the call to deployment {name} took longer than {:?} (total_timeout_ms)", target.total_timeout),
            ),
        }
    }
}

impl CallTimer {
    pub fn new(target: &Target, started: Instant, gone_out: GoneOut) -> Self {
        let deadline = started + target.total_timeout;
        let silence = target.read_timeout;
        let timer = Box::pin(tokio::time::sleep_until(deadline.min(started + silence)));
        Self { started, deadline, sent_by: started + target.sent_within(), silence, gone_out, last_byte: None, timer }
    }

    /// Since the start of the call.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// To be told at each sign of life. A provider that drips bytes never falls silent, so the deadline is looked at here.
    pub fn heard(&mut self) -> Result<(), OutOfTime> {
        let now = Instant::now();
        self.last_byte = Some(now);
        if now >= self.deadline { Err(OutOfTime::Total) } else { Ok(()) }
    }

    /// Brings the deadline forward to `wait` from now.
    pub fn at_most(&mut self, wait: Duration) {
        self.deadline = self.deadline.min(Instant::now() + wait);
        self.timer.as_mut().reset(self.deadline);
    }

    /// Ready when one of the times is up; to be polled when what is waited for is not there.
    pub fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<OutOfTime> {
        loop {
            ready!(self.timer.as_mut().poll(cx));
            let now = Instant::now();
            if now >= self.deadline {
                return Poll::Ready(OutOfTime::Total);
            }
            let look_again = match self.last_byte.or_else(|| self.gone_out.get().copied()) {
                Some(since) if now >= since + self.silence => return Poll::Ready(OutOfTime::Silent),
                Some(since) => since + self.silence,
                None if now >= self.sent_by => return Poll::Ready(OutOfTime::Unsent),
                None => self.sent_by.min(now + self.silence.min(CONNECT_POLL_INTERVAL)),
            };
            self.timer.as_mut().reset(look_again.min(self.deadline));
        }
    }

    /// Waits for `sign`, a sign of life, while there is time.
    pub async fn wait<F: Future>(&mut self, sign: F) -> Result<F::Output, OutOfTime> {
        let mut sign = pin!(sign);
        std::future::poll_fn(|cx| match sign.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(self.heard().map(|()| output)),
            Poll::Pending => self.poll_out(cx).map(Err),
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;
    use crate::target::tests::deployment;

    #[tokio::test]
    async fn a_request_that_no_connection_takes_is_given_up() {
        let spec = domain::Deployment { connect_timeout_ms: 60, read_timeout_ms: 40, ..deployment("http://x") };
        let target = Target::resolve("d", &spec).unwrap();
        let (started, gone_out) = (Instant::now(), GoneOut::default());
        let mut timer = CallTimer::new(&target, started, gone_out.clone());
        assert_eq!(timer.wait(pending::<()>()).await, Err(OutOfTime::Unsent));
        assert!(started.elapsed() >= target.sent_within());
        let error = OutOfTime::Unsent.into_error(&target);
        assert_eq!(error.class, ErrorClass::ConnectTimeout);
        assert_eq!(error.message, "no connection to deployment d took the request within 100ms");

        let started = Instant::now();
        let mut timer = CallTimer::new(&target, started, gone_out.clone());
        gone_out.set(started).unwrap();
        assert_eq!(timer.wait(pending::<()>()).await, Err(OutOfTime::Silent));
    }
}
