//! What receivers are sent: Slack gets blocks to read, a webhook an event to work with.

use chrono::{DateTime, SecondsFormat, Utc};
use domain::alert::Said;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Receiver, raise::Raised};

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
mod tests {
    use domain::{AlertKind, alert::Field};
    use store::alert::Key;

    use super::*;

    fn raised() -> Raised {
        Raised {
            key: Key {
                kind: AlertKind::Budget,
                about: "7".into(),
                threshold: 80,
                since: "2026-11-01T00:00:00Z".parse().unwrap(),
                until: None,
            },
            object: "search-month".into(),
            team: Some("search".into()),
            said: Said {
                title: "Budget search-month reached 80 %".into(),
                text: "$19,300 of <$24,000> & more.".into(),
                fields: vec![Field::new("Spent", "$19300.00"), Field::new("Left", "$4700.00")],
            },
            silent: Vec::new(),
        }
    }

    #[test]
    fn slack_gets_blocks() {
        let message = slack(Uuid::from_u128(1), &raised());
        assert_eq!(
            message,
            json!({
                "text": "Budget search-month reached 80 %",
                "blocks": [
                    {"type": "header", "text": {"type": "plain_text", "text": "Budget search-month reached 80 %"}},
                    {"type": "section", "text": {"type": "mrkdwn", "text": "$19,300 of &lt;$24,000&gt; &amp; more."}},
                    {"type": "section", "fields": [
                        {"type": "mrkdwn", "text": "*Spent*\n$19300.00"},
                        {"type": "mrkdwn", "text": "*Left*\n$4700.00"},
                    ]},
                    {"type": "context", "elements": [
                        {"type": "mrkdwn", "text": "Tollway · budget · 00000000-0000-0000-0000-000000000001"},
                    ]},
                ],
            })
        );
        let mut long = raised();
        long.said.title = "x".repeat(500);
        let message = slack(Uuid::nil(), &long);
        assert_eq!(message["blocks"][0]["text"]["text"].as_str().map(str::len), Some(LONGEST_HEADER));
    }

    #[test]
    fn a_webhook_gets_an_event() {
        let event = event(Uuid::from_u128(1), &raised(), "2026-11-20T09:30:00Z".parse().unwrap());
        assert_eq!(
            event,
            json!({
                "type": "alert.budget",
                "timestamp": "2026-11-20T09:30:00Z",
                "data": {
                    "id": "00000000-0000-0000-0000-000000000001",
                    "kind": "budget",
                    "object": "search-month",
                    "team": "search",
                    "threshold": 80,
                    "since": "2026-11-01T00:00:00Z",
                    "title": "Budget search-month reached 80 %",
                    "text": "$19,300 of <$24,000> & more.",
                    "fields": [{"name": "Spent", "value": "$19300.00"}, {"name": "Left", "value": "$4700.00"}],
                },
            })
        );
    }
}
