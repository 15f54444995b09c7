//! The most that a job may cost.

use admission::worst_case;
use chrono::{DateTime, Utc};
use domain::money::Total;

use super::{Flow, SubmitError};

/// Refuses a job with a request that could never start.
pub fn check(max_cost: Total, flows: &[Flow<'_>], now: DateTime<Utc>) -> Result<(), SubmitError> {
    for flow in flows {
        let (est_in, max_out) = (i64::from(flow.max_in), flow.max_out.map(i64::from));
        let worst = |deployment: &_| worst_case::cost(deployment, est_in, max_out, now);
        // The cheapest that may serve it.
        let priced = flow.route.deployments.iter().filter(|deployment| deployment.is_priced(flow.endpoint, now));
        let Some(least) = priced.filter_map(|deployment| worst(deployment)).min() else {
            let reason = format!("model {} has no price, so nobody knows what a request costs", flow.route.name);
            return Err(SubmitError::param("max_cost", reason));
        };
        let least = Total(least.pico().into());
        if least > max_cost {
            let reason = format!(
                "one request of model {} may cost ${least}, which is more than ${max_cost}; its maximum of output counts",
                flow.route.name
            );
            return Err(SubmitError::param("max_cost", reason));
        }
    }
    Ok(())
}
