//! What tests of submission share.

use domain::{
    Catalog, Deployment, Route,
    catalog::{OwnPrice, ProviderKind},
};

use crate::catalog::ActiveCatalog;

/// Routes `e5` and `chat` at a price of their own, `dear` without any, `mixed` over two models, and `r00` to `r32`.
pub fn catalog() -> ActiveCatalog {
    let deployment = |model: &str| Deployment {
        kind: ProviderKind::Openai,
        provider: None,
        base_url: "http://127.0.0.1:9/v1".into(),
        model: model.into(),
        credential: None,
        slots: None,
        rpm: None,
        tpm: None,
        connect_timeout_ms: 1,
        read_timeout_ms: 1,
        total_timeout_ms: 1,
        billing_account: None,
        provider_project: None,
        region: None,
    };
    let price = |model: &str, free: bool| OwnPrice {
        provider: "openai".into(),
        model: model.into(),
        free,
        input: (!free).then(|| "1".into()),
        output: (!free).then(|| "2".into()),
        cache_read: None,
        cache_write: None,
        from: None,
    };
    let route = |deployments: &[&str]| Route {
        deployments: deployments.iter().map(|name| (*name).to_owned()).collect(),
        allow_unpriced: false,
    };
    let models = ["free-model", "priced-model", "model-without-price"];
    let numbered = (0..=32).map(|n| (format!("r{n:02}"), route(&["free-model"])));
    let named = [
        ("e5", route(&["free-model"])),
        ("chat", route(&["priced-model"])),
        ("dear", route(&["model-without-price"])),
        ("mixed", route(&["free-model", "priced-model"])),
    ];
    let catalog = Catalog {
        deployments: models.iter().map(|model| ((*model).to_owned(), deployment(model))).collect(),
        routes: named.into_iter().map(|(name, route)| (name.to_owned(), route)).chain(numbered).collect(),
        prices: vec![price("free-model", true), price("priced-model", false)],
        ..Catalog::default()
    };
    ActiveCatalog::build(1, catalog).unwrap()
}
