//! The ground truth: every call, from the moment its head was read until its fate was sealed.
//!
//! A million calls take 55 MB, and 40 MB more once the ids that came twice have been counted (for `/sim/stats`).
//! Recording appends to a list or changes one entry of it, under a lock that is held for well under a microsecond.

mod file;
mod line;
mod names;
mod record;
mod repeats;
mod stats;

use std::path::Path;
use std::sync::Mutex;

pub use line::JournalLine;
pub use record::{Endpoint, Outcome};
pub use stats::{Counts, Stats};

pub(crate) use record::{ClientId, End};

use crate::clock::Clock;
use crate::sync::locked;
use file::JournalFile;
use names::Names;
use record::{Record, Records};
use repeats::Repeats;
use stats::Tally;

pub(crate) struct Journal {
    clock: Clock,
    pages: Mutex<Pages>,
    repeats: Mutex<Repeats>,
    file: Option<JournalFile>,
}

/// Stands at number 0 of the models: not known yet, or one of more than 65,535.
const NO_MODEL: &str = "";

fn number(names: &mut Names, text: &str) -> u16 {
    u16::try_from(names.of(text)).unwrap_or(0)
}

/// What one lock covers.
struct Pages {
    records: Records,
    deployments: Names,
    models: Names,
    /// Request ids that are no UUID. Few callers send such, so they may cost more.
    texts: Names,
    all: Tally,
    by_deployment: Vec<Tally>,
}

impl Journal {
    /// Opens an empty journal; with `path`, one that goes on numbering where that file ends.
    pub fn open(clock: Clock, path: Option<&Path>) -> std::io::Result<Self> {
        let (file, last_seq) = match path {
            None => (None, 0),
            Some(path) => JournalFile::open(path).map(|(file, last)| (Some(file), last))?,
        };
        let mut models = Names::default();
        models.of(NO_MODEL);
        Ok(Self {
            clock,
            pages: Mutex::new(Pages {
                records: Records::starting_at(last_seq + 1),
                deployments: Names::default(),
                models,
                texts: Names::default(),
                all: Tally::default(),
                by_deployment: Vec::new(),
            }),
            repeats: Mutex::new(Repeats::starting_at(last_seq + 1)),
            file,
        })
    }

    pub fn now_us(&self) -> u64 {
        self.clock.now_us()
    }

    /// Gives a deployment its number in the records.
    pub fn register(&self, deployment: &str) -> u16 {
        let mut pages = locked(&self.pages);
        let number = number(&mut pages.deployments, deployment);
        pages.by_deployment.resize_with(usize::from(number) + 1, Tally::default);
        number
    }

    /// Books a call's arrival and returns its number.
    pub fn arrive(&self, deployment: u16, endpoint: Endpoint, id: ClientId<'_>) -> u64 {
        let now = self.now_us();
        let mut pages = locked(&self.pages);
        let record = match id {
            ClientId::None => Record::arrived(now, deployment, endpoint),
            ClientId::Uuid(id) => Record::arrived(now, deployment, endpoint).with_uuid(id),
            ClientId::Text(text) => {
                let number = pages.texts.of(text);
                Record::arrived(now, deployment, endpoint).with_text(number)
            }
        };
        let seq = pages.records.push(record);
        pages.tallies(deployment, Tally::arrive);
        self.copy_to_file(pages, seq);
        seq
    }

    /// Notes the model once the body has been read.
    pub fn parsed(&self, seq: u64, model: &str) {
        let mut pages = locked(&self.pages);
        let number = number(&mut pages.models, model);
        if let Some(record) = pages.records.get_mut(seq) {
            record.model = number;
        }
    }

    /// Books a call's end. It is visible here before the caller can have seen the answer's last byte.
    pub fn end(&self, seq: u64, deployment: u16, end: End) {
        let now = self.now_us();
        let mut pages = locked(&self.pages);
        let known = pages.records.get_mut(seq).map(|record| record.end(now, end));
        // A call from before a reset still leaves, but is counted no more.
        pages.tallies(deployment, |tally| tally.leave(known.map(|()| end)));
        self.copy_to_file(pages, seq);
    }

    /// Up to `limit` lines from number `from` on, and the number after the last of them.
    pub fn lines(&self, from: u64, limit: usize, out: &mut Vec<u8>) -> u64 {
        let pages = locked(&self.pages);
        let from = from.max(pages.records.first());
        let until = pages.records.next().min(from.saturating_add(limit as u64));
        (from..until).for_each(|seq| pages.write_line(seq, out));
        until.max(from)
    }

    /// The number the next call will get.
    pub fn next_seq(&self) -> u64 {
        locked(&self.pages).records.next()
    }

    /// Counts everything. Each call's id is looked at once, when the first statistics after it are asked for.
    pub fn stats(&self) -> Stats {
        let mut repeats = locked(&self.repeats);
        let mut batch = Vec::new();
        loop {
            let until = locked(&self.pages).records.uuids(repeats.next, &mut batch);
            if until == repeats.next {
                break;
            }
            repeats.take(until, &batch);
        }
        let pages = locked(&self.pages);
        let each = pages.by_deployment.iter().enumerate();
        Stats {
            all: pages.all.counts(),
            duplicates: repeats.found + pages.texts.repeats,
            journal_write_errors: self.file.as_ref().map_or(0, JournalFile::errors),
            deployments: each.map(|(at, tally)| (pages.deployments.text(at).into(), tally.counts())).collect(),
        }
    }

    /// Forgets all calls. Numbers go on, and calls in flight stay counted as such; the file keeps what it has.
    pub fn reset(&self) {
        let mut repeats = locked(&self.repeats);
        let mut pages = locked(&self.pages);
        let next = pages.records.next();
        pages.records = Records::starting_at(next);
        pages.texts = Names::default();
        *repeats = Repeats::starting_at(next);
        pages.all.reset();
        pages.by_deployment.iter_mut().for_each(Tally::reset);
    }

    fn copy_to_file(&self, pages: std::sync::MutexGuard<'_, Pages>, seq: u64) {
        let Some(file) = &self.file else { return };
        let mut line = Vec::with_capacity(320);
        pages.write_line(seq, &mut line);
        drop(pages);
        file.append(&line);
    }
}

impl Pages {
    fn tallies(&mut self, deployment: u16, change: impl Fn(&mut Tally)) {
        change(&mut self.all);
        change(&mut self.by_deployment[usize::from(deployment)]);
    }

    fn write_line(&self, seq: u64, out: &mut Vec<u8>) {
        if let Some(record) = self.records.get(seq) {
            line::write(self, seq, record, out);
        }
    }
}

#[cfg(test)]
mod tests;
