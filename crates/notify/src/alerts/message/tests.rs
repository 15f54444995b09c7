//! What is sent of each kind of alert, word for word: whoever changes it sees it.

use domain::{AlertKind, alert::Field};
use store::alert::Key;

use super::*;

/// What Slack and a webhook are sent. The alerts are made where they are raised: see the tests there.
pub fn assert_sent(name: &str, raised: &Raised) {
    let (id, at) = (Uuid::from_u128(1), "2026-11-23T12:00:30Z".parse().unwrap());
    insta::assert_json_snapshot!(format!("{name}_slack"), slack(id, raised));
    insta::assert_json_snapshot!(format!("{name}_webhook"), event(id, raised, at));
}

#[test]
fn what_slack_is_sent_is_text_and_fits() {
    let raised = Raised {
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
            title: "<x".repeat(250),
            text: "$19,300 of <$24,000> & more.".into(),
            fields: vec![Field::new("A&B", "<b>"); 20],
        },
        silent: Vec::new(),
    };
    let message = slack(Uuid::nil(), &raised);
    let header = message["blocks"][0]["text"]["text"].as_str().unwrap();
    assert_eq!((header.len(), &header[..4]), (LONGEST_HEADER, "<x<x"), "plain text is not escaped");
    assert_eq!(message["blocks"][1]["text"]["text"], "$19,300 of &lt;$24,000&gt; &amp; more.");
    let fields = message["blocks"][2]["fields"].as_array().unwrap();
    assert_eq!((fields.len(), &fields[0]["text"]), (MOST_FIELDS, &json!("*A&amp;B*\n&lt;b&gt;")));
}
