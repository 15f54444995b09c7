//! Asking a deployment whether it is there.

use std::time::Duration;

use domain::ErrorClass;
use providers::{HttpClients, Target, list_models};

use crate::{server::*, support::deployment};

const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

async fn asked(script: Vec<u8>) -> (Result<Option<Vec<String>>, providers::CallError>, String) {
    let server = Server::answering(vec![send(script)]).await;
    let target = Target::resolve("d", &deployment(&format!("http://{}/v1/?api-version=2", server.address))).unwrap();
    let found = list_models(&HttpClients::new(), &target, PROBE_TIMEOUT).await;
    (found, server.requests().remove(0))
}

#[tokio::test]
async fn models_are_asked_for_below_the_base_url() {
    let (found, request) = asked(reply("200 OK", "", r#"{"data":[{"id":"m","object":"model"},{"id":"n"}]}"#)).await;
    assert_eq!(found.unwrap(), Some(vec!["m".to_owned(), "n".to_owned()]));
    assert!(request.starts_with("GET /v1/models?api-version=2 HTTP/1.1\r\n"), "{request}");
}

#[tokio::test]
async fn a_server_without_a_list_is_there_all_the_same() {
    let (found, _) = asked(reply("404 Not Found", "", "{}")).await;
    assert_eq!(found.unwrap(), None);
}

#[tokio::test]
async fn what_the_operator_has_to_mend_is_said() {
    for (status, head, body, class, word) in [
        ("401 Unauthorized", "", "{}", ErrorClass::Credential, "credential"),
        ("302 Found", "location: http://127.0.0.1:9/\r\n", "", ErrorClass::UnexpectedStatus, "base_url"),
        ("200 OK", "", "<html>", ErrorClass::Garbage, "no list of models"),
    ] {
        let error = asked(reply(status, head, body)).await.0.unwrap_err();
        assert_eq!(error.class, class, "{error:?}");
        assert!(error.message.contains(word), "{}", error.message);
    }
}
