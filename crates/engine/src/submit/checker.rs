//! One request after the other against the catalog, and what they add up to by route.

use std::{borrow::Cow, sync::Arc};

use admission::{
    catalog::{ActiveCatalog, ActiveRoute},
    fit::{Bounds, Ceilings, SizeRule},
};
use chrono::{DateTime, Utc};
use domain::{Endpoint, ids::time_id};
use store::ingest::NewFlow;
use wire::RequestLine;

use super::{LineError, MOST_ROUTES, ids::CustomIds};

/// Model names in an error.
const MOST_NAMES: usize = 10;

pub struct Checker<'c> {
    catalog: &'c ActiveCatalog,
    started: DateTime<Utc>,
    custom_ids: CustomIds,
    flows: Vec<Flow<'c>>,
    /// Where the last request went; the next one mostly goes there too.
    latest: usize,
    requests: i32,
    most: i32,
    /// What each request has to fit into; `None`: nothing.
    bounds: Option<Bounds<'c>>,
}

/// The requests of one route so far.
pub struct Flow<'c> {
    pub id: i64,
    pub route: &'c Arc<ActiveRoute>,
    pub endpoint: Endpoint,
    pub items: i32,
    /// Of its largest request; no output when one of them sets no maximum.
    pub max_in: i32,
    pub max_out: Option<i32>,
    /// Of all together.
    pub total_in: i64,
    pub total_out: Option<i64>,
    /// Answers that are generated; requests may ask for several.
    pub choices: i64,
    size: SizeRule,
    /// `None`: it has to fit into nothing.
    ceilings: Option<Ceilings>,
    /// The largest request that is known to fit.
    fits: Option<(i32, Option<i32>)>,
}

/// A request that can be queued.
#[derive(Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// Its flow's place in [`Checker::flows`].
    pub flow: usize,
    pub pos: i32,
    /// Counted from 1 in the job.
    pub line: i32,
    pub est_in: i32,
    /// Of all its choices together; `None`: it asks for one, without a maximum.
    pub max_out: Option<i32>,
    pub choices: i64,
    /// It sets a maximum.
    pub is_bounded: bool,
    pub custom_id: Cow<'a, str>,
    pub body: &'a str,
}

impl<'c> Checker<'c> {
    /// `started` goes into the ids of flows, so that a job's items lie in the partition of one day however long it uploads.
    pub fn new(catalog: &'c ActiveCatalog, started: DateTime<Utc>, most: i32) -> Self {
        Self {
            catalog,
            started,
            custom_ids: CustomIds::new(),
            flows: Vec::new(),
            latest: 0,
            requests: 0,
            most,
            bounds: None,
        }
    }

    /// The same, and a request that could never start is refused.
    pub fn within(self, bounds: Bounds<'c>) -> Self {
        Self { bounds: Some(bounds), ..self }
    }

    pub fn check<'a>(&mut self, line: &'a [u8]) -> Result<Request<'a>, LineError> {
        if self.requests >= self.most {
            return Err(LineError::TooMany(self.most));
        }
        let request = RequestLine::parse(line)?;
        if request.custom_id.contains('\0') {
            return Err(LineError::Nul);
        }
        let flow = self.flow(&request.call.model, request.call.endpoint)?;
        if !self.custom_ids.insert(&request.custom_id) {
            return Err(LineError::Duplicate(request.custom_id.into_owned()));
        }
        let output = request.call.output;
        let (est_in, max_out) = self.flows[flow].size.columns(&request.call);
        self.flows[flow].fit(est_in, max_out)?;
        self.requests += 1;
        self.latest = flow;
        let pos = self.flows[flow].add(est_in, max_out, output.choices);
        Ok(Request {
            flow,
            pos,
            line: self.requests,
            est_in,
            max_out,
            choices: output.choices,
            is_bounded: output.max.is_some(),
            custom_id: request.custom_id,
            body: request.body,
        })
    }

    pub fn flows(&self) -> &[Flow<'c>] {
        &self.flows
    }

    pub fn flow_ids(&self) -> Vec<i64> {
        self.flows.iter().map(|flow| flow.id).collect()
    }

    pub fn requests(&self) -> i64 {
        i64::from(self.requests)
    }

    /// The flow for this model and endpoint, made when it is the first such request.
    fn flow(&mut self, model: &str, endpoint: Endpoint) -> Result<usize, LineError> {
        let fits = |flow: &Flow<'_>| flow.endpoint == endpoint && *flow.route.name == *model;
        if self.flows.get(self.latest).is_some_and(fits) {
            return Ok(self.latest);
        }
        if let Some(found) = self.flows.iter().position(fits) {
            return Ok(found);
        }
        let route = self.catalog.route(model).ok_or_else(|| unknown(model, self.catalog))?;
        if !route.serves(endpoint) {
            return Err(LineError::NotServed { model: model.to_owned(), path: endpoint.path(), kinds: route.kinds() });
        }
        if !route.is_priced(endpoint, self.started) {
            return Err(LineError::Unpriced { model: model.to_owned() });
        }
        if endpoint == Endpoint::Embeddings && !one_model(route) {
            return Err(LineError::MixedModels { model: model.to_owned() });
        }
        if self.flows.len() == MOST_ROUTES {
            return Err(LineError::TooManyRoutes);
        }
        let mut id = time_id(self.started);
        while self.flows.iter().any(|flow| flow.id == id) {
            id = time_id(self.started);
        }
        let size = SizeRule::of(route, endpoint);
        let ceilings = self.bounds.map(|bounds| bounds.of(route, endpoint));
        self.flows.push(Flow {
            id,
            route,
            endpoint,
            items: 0,
            max_in: 0,
            max_out: Some(0),
            total_in: 0,
            total_out: Some(0),
            choices: 0,
            size,
            ceilings,
            fits: None,
        });
        Ok(self.flows.len() - 1)
    }
}

impl Flow<'_> {
    /// Refuses a request that could never start.
    fn fit(&mut self, est_in: i32, max_out: Option<i32>) -> Result<(), LineError> {
        // Mostly a larger one was let through before.
        let is_within = |(most_in, most_out): (i32, Option<i32>)| {
            est_in <= most_in && most_out.is_none_or(|most| max_out.is_some_and(|out| out <= most))
        };
        if let Some(ceilings) = self.ceilings.as_ref().filter(|_| !self.fits.is_some_and(is_within)) {
            ceilings.check(est_in.into(), max_out.map(i64::from))?;
            self.fits = Some((est_in, max_out));
        }
        Ok(())
    }

    /// Counts a request; gives its position.
    fn add(&mut self, est_in: i32, max_out: Option<i32>, choices: i64) -> i32 {
        let pos = self.items;
        self.items += 1;
        self.max_in = self.max_in.max(est_in);
        self.max_out = self.max_out.zip(max_out).map(|(a, b)| a.max(b));
        self.choices += choices;
        self.total_in += i64::from(est_in);
        self.total_out = self.total_out.zip(max_out).map(|(sum, most)| sum + i64::from(most));
        pos
    }

    pub fn to_store(&self) -> NewFlow {
        NewFlow {
            flow_id: self.id,
            route: self.route.name.to_string(),
            endpoint: self.endpoint.code(),
            items: self.items,
            max_in: self.max_in,
            max_out: self.max_out,
        }
    }
}

fn one_model(route: &ActiveRoute) -> bool {
    let mut models = route.deployments.iter().map(|deployment| &deployment.spec.model);
    let first = models.next();
    models.all(|model| Some(model) == first)
}

fn unknown(model: &str, catalog: &ActiveCatalog) -> LineError {
    let mut names: Vec<&str> = catalog.routes.keys().map(|name| &**name).collect();
    names.sort_unstable();
    let more = names.len().saturating_sub(MOST_NAMES);
    names.truncate(MOST_NAMES);
    let mut known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    if more > 0 {
        known = format!("{known} and {more} more");
    }
    LineError::UnknownModel { model: model.chars().take(128).collect(), known }
}

#[cfg(test)]
mod tests {
    use super::{super::testing::catalog, *};
    use wire::BadLine;

    fn embed(id: &str, model: &str) -> Vec<u8> {
        format!(
            r#"{{"custom_id":"{id}","method":"POST","url":"/v1/embeddings","body":{{"model":"{model}","input":"x"}}}}"#
        )
        .into()
    }

    fn chat(id: &str, model: &str, most: &str) -> Vec<u8> {
        let body = format!(r#"{{"model":"{model}","messages":[{{}}]{most}}}"#);
        format!(r#"{{"custom_id":"{id}","method":"POST","url":"/v1/chat/completions","body":{body}}}"#).into()
    }

    fn now() -> DateTime<Utc> {
        "2026-11-22T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn requests_are_counted_by_route_and_endpoint() {
        let catalog = catalog();
        let mut checker = Checker::new(&catalog, now(), 100);
        let lines = [embed("a", "e5"), chat("b", "chat", ""), embed("c", "e5"), chat("d", "e5", r#","max_tokens":9"#)];
        let places: Vec<_> =
            lines.iter().map(|line| checker.check(line).map(|r| (r.flow, r.pos, r.line, r.max_out)).unwrap()).collect();
        assert_eq!(places, [(0, 0, 1, Some(0)), (1, 0, 2, None), (0, 1, 3, Some(0)), (2, 0, 4, Some(9))]);
        let flows: Vec<_> = checker.flows().iter().map(|f| (&*f.route.name, f.items, f.max_in, f.max_out)).collect();
        assert_eq!(flows, [("e5", 2, 7, Some(0)), ("chat", 1, 8, None), ("e5", 1, 12, Some(9))]);
        assert_eq!(checker.requests(), 4);
    }

    #[test]
    fn a_route_without_embeddings_takes_none() {
        let declared = serde_json::json!({
            "deployments": {"claude": {"kind": "anthropic", "base_url": "http://127.0.0.1:9/v1", "model": "claude-sonnet-4-5"}},
            "routes": {"claude": {"deployments": ["claude"]}},
        });
        let catalog = ActiveCatalog::build(1, serde_json::from_value(declared).unwrap()).unwrap();
        let mut checker = Checker::new(&catalog, now(), 3);
        let refused = checker.check(&embed("a", "claude")).unwrap_err().to_string();
        assert_eq!(refused, r#"model "claude" does not serve /v1/embeddings: its deployments are of kind anthropic"#);
        assert!(checker.check(&chat("b", "claude", "")).is_ok());
    }

    #[test]
    fn what_cannot_be_queued_is_refused_with_the_reason() {
        let catalog = catalog();
        let refused = |lines: &[Vec<u8>]| {
            let mut checker = Checker::new(&catalog, now(), 3);
            let (last, first) = lines.split_last().unwrap();
            first.iter().for_each(|line| drop(checker.check(line).unwrap()));
            checker.check(last).unwrap_err()
        };
        assert_eq!(refused(&[embed("a", "e5"), chat("a", "chat", "")]), LineError::Duplicate("a".into()));
        assert_eq!(refused(&[embed(r"a\u0000b", "e5")]), LineError::Nul);
        assert_eq!(refused(&[embed("a", "dear")]), LineError::Unpriced { model: "dear".into() });
        assert_eq!(refused(&[embed("a", "mixed")]), LineError::MixedModels { model: "mixed".into() });
        assert_eq!(
            refused(&[b"{".to_vec()]).to_string(),
            "not a request line: the text ends too early at column 2; if its object goes on in the next line, write each on \
             one line, as `jq -c . FILE` does"
        );
        assert_eq!(refused(&["a", "b", "c", "d"].map(|id| embed(id, "e5"))), LineError::TooMany(3));
        assert_eq!(
            refused(&[embed("a", "E5")]).to_string(),
            "there is no model \"E5\"; there are chat, dear, e5, mixed, r00, r01, r02, r03, r04, r05 and 27 more"
        );
        // In the id, and in the part of the body that is never read but stored as text.
        for (at, byte) in [(15, 0xff), (15, 0), (88, 0xff), (88, 0)] {
            let mut line = embed("abc", "e5");
            line[at] = byte;
            assert!(matches!(refused(&[line]), LineError::Bad(BadLine::Json(_))), "{byte} at {at}");
        }
    }

    #[test]
    fn a_job_uses_at_most_32_models() {
        let catalog = catalog();
        let mut checker = Checker::new(&catalog, now(), 100);
        for n in 0..MOST_ROUTES {
            checker.check(&embed(&n.to_string(), &format!("r{n:02}"))).unwrap();
        }
        assert!(checker.check(&embed("again", "r00")).is_ok());
        assert_eq!(checker.check(&embed("more", "r32")), Err(LineError::TooManyRoutes));
        let mut ids = checker.flow_ids();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), MOST_ROUTES);
    }
}
