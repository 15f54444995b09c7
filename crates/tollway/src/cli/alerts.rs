//! `tollway alerts …`.

use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use domain::{
    Alert,
    alert::{Delivery, DeliveryState},
};
use serde_json::json;

use super::{
    Common, Exit, Format, Outcome,
    client::{Client, Page},
    output::{self, line, note, time},
};

/// The gateway's largest page.
const PAGE: usize = 200;
/// How long to wait for a test: a try takes at most ten seconds.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(15);
const POLL_INTERVAL: Duration = Duration::from_millis(300);

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Alerts {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List alerts with their deliveries, newest first
    List {
        /// Show at most this many, newest first
        #[arg(long, value_name = "N", default_value_t = 20)]
        limit: usize,
    },
    /// Send a test alert to one receiver or to all, and report its delivery
    Test { receiver: Option<String> },
}

pub async fn run(args: Alerts, common: &Common) -> Outcome {
    let client = Client::find()?;
    let is_json = common.output == Format::Json;
    match args.command.unwrap_or(Command::List { limit: 20 }) {
        Command::List { limit } => list(&client, limit, is_json).await,
        Command::Test { receiver } => test(&client, receiver.as_deref(), is_json).await,
    }
}

async fn list(client: &Client, limit: usize, is_json: bool) -> Outcome {
    let (mut alerts, mut cursor): (Vec<Alert>, Option<String>) = (Vec::new(), None);
    while alerts.len() < limit {
        let mut query = vec![("limit", (limit - alerts.len()).min(PAGE).to_string())];
        query.extend(cursor.take().map(|cursor| ("cursor", cursor)));
        let page: Page<Alert> = client.get("api/v1/alerts", &query).await?;
        alerts.extend(page.data);
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    if is_json {
        output::json(&alerts)?;
        return Ok(Exit::Done);
    }
    if alerts.is_empty() {
        line("There was nothing to be told.")?;
    }
    for alert in &alerts {
        line(format!("{} {:<13} {}", time(alert.raised_at), alert.kind.as_str(), alert.said.title))?;
        for delivery in &alert.deliveries {
            line(format!("    {}", arrival(delivery)))?;
        }
    }
    if cursor.is_some() {
        note("There is more; ask with a larger --limit.");
    }
    Ok(Exit::Done)
}

async fn test(client: &Client, receiver: Option<&str>, is_json: bool) -> Outcome {
    let body = receiver.map_or_else(|| json!({}), |receiver| json!({ "receiver": receiver }));
    let mut sent: Alert = client.post("api/v1/alerts/test", &body).await?;
    let began = Instant::now();
    while sent.deliveries.iter().any(is_open) && began.elapsed() < DELIVERY_TIMEOUT {
        tokio::time::sleep(POLL_INTERVAL).await;
        sent = client.get(&format!("api/v1/alerts/{}", sent.id), &()).await?;
    }
    if is_json {
        output::json(&sent)?;
    } else {
        for delivery in &sent.deliveries {
            line(arrival(delivery))?;
        }
        if sent.deliveries.iter().any(|delivery| delivery.tries == 0) {
            note("Receivers are called by processes with the role maintenance; does one run with this configuration?");
        }
    }
    let all_arrived = sent.deliveries.iter().all(|delivery| delivery.state == DeliveryState::Delivered);
    Ok(if all_arrived { Exit::Done } else { Exit::Failed })
}

/// Nothing is known yet of how it went.
fn is_open(delivery: &Delivery) -> bool {
    delivery.state == DeliveryState::Waiting && delivery.last_error.is_none()
}

fn arrival(delivery: &Delivery) -> String {
    let Delivery { receiver, tries, .. } = delivery;
    let why = delivery.last_error.as_deref().unwrap_or("no try has ended");
    match (delivery.state, delivery.delivered_at, delivery.next_try_at) {
        (DeliveryState::Delivered, Some(at), _) => format!("{receiver}: delivered {}", time(at)),
        (DeliveryState::Delivered, None, _) => format!("{receiver}: delivered"),
        (DeliveryState::GivenUp, ..) => format!("{receiver}: given up after {tries} tries: {why}"),
        (DeliveryState::Waiting, _, Some(next)) if *tries > 0 => {
            format!("{receiver}: waiting, next try {}: {why}", time(next))
        }
        (DeliveryState::Waiting, ..) => format!("{receiver}: waiting"),
    }
}
