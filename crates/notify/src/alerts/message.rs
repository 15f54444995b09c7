//! What receivers are sent: Slack gets blocks to read, a webhook an event to work with.

use chrono::{DateTime, SecondsFormat, Utc};
use domain::alert::Said;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Raised, Receiver};

/// Slack takes no longer header, and no more fields.
const LONGEST_HEADER: usize = 150;
const MOST_FIELDS: usize = 10;

pub fn payload(receiver: &Receiver, id: Uuid, raised: &Raised, at: DateTime<Utc>) -> String {
    match receiver.secret {
        Some(_) => event(id, raised, at),
        None => slack(id, raised),
    }
    .to_string()
}

/// `{"type":"alert.budget","timestamp":…,"data":{…}}`, as jobs' ends are told.
fn event(id: Uuid, raised: &Raised, at: DateTime<Utc>) -> Value {
    let time = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::AutoSi, true);
    let Raised { key, object, team, said, .. } = raised;
    json!({
        "type": format!("alert.{}", key.kind.as_str()),
        "timestamp": time(at),
        "data": {
            "id": id,
            "kind": key.kind,
            "object": object,
            "team": team,
            "threshold": Some(key.threshold).filter(|percent| *percent > 0),
            "since": time(key.since),
            "title": said.title,
            "text": said.text,
            "fields": said.fields,
        },
    })
}

/// Block Kit: <https://docs.slack.dev/reference/block-kit/blocks>.
fn slack(id: Uuid, raised: &Raised) -> Value {
    let Said { title, text, fields } = &raised.said;
    let header: String = title.chars().take(LONGEST_HEADER).collect();
    let mut blocks = vec![
        json!({"type": "header", "text": {"type": "plain_text", "text": header}}),
        json!({"type": "section", "text": mrkdwn(&escape(text))}),
    ];
    if !fields.is_empty() {
        let field =
            |field: &domain::alert::Field| mrkdwn(&format!("*{}*\n{}", escape(&field.name), escape(&field.value)));
        let fields: Vec<Value> = fields.iter().take(MOST_FIELDS).map(field).collect();
        blocks.push(json!({"type": "section", "fields": fields}));
    }
    let context = format!("Tollway · {} · {id}", raised.key.kind.as_str());
    blocks.push(json!({"type": "context", "elements": [mrkdwn(&context)]}));
    // What notifications show, and those who cannot see blocks.
    json!({"text": escape(title), "blocks": blocks})
}

fn mrkdwn(text: &str) -> Value {
    json!({"type": "mrkdwn", "text": text})
}

/// Slack's own three.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
pub(super) mod tests;
