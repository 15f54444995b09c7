//! The whole simulator's state.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};

use crate::clock::Clock;
use crate::config::{Config, ConfigError, check_name};
use crate::deployment::Deployment;
use crate::journal::Journal;
use crate::sync::{reading, writing};

/// The deployment of plain `/v1/…` paths.
pub const DEFAULT: &str = "default";

/// More names than anybody configures; a caller that makes names up is stopped here.
const MAX_DEPLOYMENTS: usize = 1_000;

pub struct Sim {
    pub journal: Journal,
    start: Config,
    default: Arc<Deployment>,
    named: RwLock<HashMap<Box<str>, Arc<Deployment>>>,
    stopping: AtomicBool,
}

impl Sim {
    pub fn open(start: Config) -> io::Result<Self> {
        let invalid = |error| io::Error::new(io::ErrorKind::InvalidInput, error);
        start.check().map_err(invalid)?;
        let journal = Journal::open(Clock::start(), start.journal_path.as_deref())?;
        let default = Arc::new(start_deployment(&start, &journal, DEFAULT).map_err(invalid)?);
        let sim = Self {
            named: RwLock::new([(DEFAULT.into(), default.clone())].into()),
            stopping: AtomicBool::new(false),
            journal,
            default,
            start,
        };
        // Made now, so that their throttle windows count from the server's start.
        sim.start.deployments.keys().for_each(|name| drop(sim.deployment(name)));
        Ok(sim)
    }

    pub fn default_deployment(&self) -> Arc<Deployment> {
        self.default.clone()
    }

    /// The deployment of this name; one that nobody has mentioned before comes to be, with the start configuration.
    pub fn deployment(&self, name: &str) -> Option<Arc<Deployment>> {
        if let Some(known) = reading(&self.named).get(name) {
            return Some(known.clone());
        }
        check_name(name).ok()?;
        let mut named = writing(&self.named);
        if named.len() >= MAX_DEPLOYMENTS && !named.contains_key(name) {
            return None;
        }
        let made = start_deployment(&self.start, &self.journal, name).ok()?;
        Some(named.entry(name.into()).or_insert_with(|| Arc::new(made)).clone())
    }

    /// Gives every deployment its start configuration back.
    pub fn reset_config(&self) {
        let now_us = self.journal.now_us();
        for (name, deployment) in &*reading(&self.named) {
            // It was sound at the start and has not changed since.
            if let Ok(config) = self.start.of_deployment(name) {
                deployment.set(config, now_us);
            }
        }
    }

    /// Forgets all calls.
    pub fn reset_journal(&self) {
        self.journal.reset();
        reading(&self.named).values().for_each(|deployment| deployment.forget());
    }

    /// From now on a call that does not reach its end was cut by us, not left by its client.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}

fn start_deployment(start: &Config, journal: &Journal, name: &str) -> Result<Deployment, ConfigError> {
    let config = start.of_deployment(name)?;
    Ok(Deployment::new(journal.register(name), config, journal.now_us()))
}
