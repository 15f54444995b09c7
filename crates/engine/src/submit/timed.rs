//! An upload's body under the rule of its place: it must come in fast enough, end in time, and end at once when its place
//! was given to another upload.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, ReadBuf},
    time::{Sleep, sleep},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::{
    Submitter,
    rate::{Gauge, Slow},
};
use crate::settings::UploadRate;

/// Bytes a second below which an upload drips: it loses its place when others wait.
const DRIP: u64 = 16 << 10;

/// A place and how its upload does.
#[derive(Debug)]
pub struct Occupied {
    pub team_id: i64,
    pub key_id: String,
    required: UploadRate,
    began: Instant,
    /// `None`: its lines do not come from a client.
    gauge: Mutex<Option<Gauge>>,
    /// Cancelled when its place goes to another upload.
    pub displaced: CancellationToken,
    /// Why it ended before its last byte.
    ended: Mutex<Option<Slow>>,
}

pub struct Timed<R> {
    reader: R,
    place: Arc<Occupied>,
    /// Fires when the client's window or the whole time is over.
    alarm: Pin<Box<Sleep>>,
    displaced: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Occupied {
    pub fn new(who: Submitter<'_>, required: UploadRate, began: Instant) -> Self {
        Self {
            team_id: who.team_id,
            key_id: who.key_id.to_owned(),
            required,
            began,
            gauge: Mutex::default(),
            displaced: CancellationToken::new(),
            ended: Mutex::default(),
        }
    }

    /// An error when too little came in, or when it takes too long.
    pub fn check(&self, now: Instant) -> Result<(), Slow> {
        if now.saturating_duration_since(self.began) >= self.required.deadline {
            return Err(Slow::Deadline(self.required.deadline));
        }
        self.with_gauge(|gauge| gauge.check(self.required, now))
    }

    pub fn received(&self, bytes: u64, now: Instant) {
        self.with_gauge(|gauge| gauge.received(bytes, now));
    }

    /// The client has nothing to give; the time after which it is to be checked again.
    pub fn waits(&self, now: Instant) -> Duration {
        let left = self.with_gauge(|gauge| {
            gauge.waits(now);
            gauge.left(now)
        });
        left.min((self.began + self.required.deadline).saturating_duration_since(now))
    }

    pub fn rate(&self, now: Instant) -> u64 {
        self.with_gauge(|gauge| gauge.rate(now)).unwrap_or_default()
    }

    /// Its last byte is in: from here on the client keeps nobody waiting.
    pub fn is_whole(&self) {
        *self.gauge.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Its reader's last word.
    pub fn end(&self, slow: Slow) -> io::Error {
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(slow);
        io::Error::new(io::ErrorKind::TimedOut, slow)
    }

    pub fn ended(&self) -> Option<Slow> {
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its rate if that is a drip.
    pub fn drips(&self, now: Instant) -> Option<u64> {
        let gauge = *self.gauge.lock().unwrap_or_else(PoisonError::into_inner);
        gauge?.rate_of_waiting(now).filter(|rate| *rate < DRIP.max(self.required.bytes_per_s))
    }

    fn with_gauge<T>(&self, with: impl FnOnce(&mut Gauge) -> T) -> T {
        with(self.gauge.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default())
    }
}

impl<R> Timed<R> {
    pub fn new(reader: R, place: Arc<Occupied>) -> Self {
        let displaced = Box::pin(place.displaced.clone().cancelled_owned());
        Self { reader, place, alarm: Box::pin(sleep(Duration::ZERO)), displaced }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Timed<R> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.displaced.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(this.place.end(Slow::Displaced { rate: this.place.rate(Instant::now()) })));
        }
        let before = room.filled().len();
        let read = Pin::new(&mut this.reader).poll_read(cx, room);
        let now = Instant::now();
        let left = match read {
            Poll::Ready(Err(_)) => return read,
            Poll::Ready(Ok(())) if room.filled().len() == before => {
                this.place.is_whole();
                return read;
            }
            Poll::Ready(Ok(())) => {
                this.place.received((room.filled().len() - before) as u64, now);
                None
            }
            Poll::Pending => Some(this.place.waits(now)),
        };
        if let Err(slow) = this.place.check(now) {
            return Poll::Ready(Err(this.place.end(slow)));
        }
        if let Some(left) = left {
            this.alarm.as_mut().reset((now + left).into());
            if this.alarm.as_mut().poll(cx).is_ready() {
                // Its window or its time is over already: the next poll says so.
                cx.waker().wake_by_ref();
            }
        }
        read
    }
}
