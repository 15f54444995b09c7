//! How much a model writes at most. Anthropic requires `max_tokens` in each request; OpenAI does not.

use domain::line::DEFAULT_MAX_OUTPUT;

use crate::target::Target;

/// The output limits that Anthropic documents, by how the model's name begins. The first that fits counts.
const KNOWN: [(&str, u64); 15] = [
    ("claude-3-5-", 8_192),
    ("claude-3-7-", 64_000),
    ("claude-3-", 4_096),
    ("claude-opus-4-5", 64_000),
    ("claude-opus-4-6", 128_000),
    ("claude-opus-4-7", 128_000),
    ("claude-opus-4-8", 128_000),
    ("claude-opus-4-", 32_000),
    ("claude-sonnet-4-6", 128_000),
    ("claude-sonnet-4-", 64_000),
    ("claude-haiku-4-", 64_000),
    ("claude-opus-5", 128_000),
    ("claude-sonnet-5", 128_000),
    ("claude-haiku-5", 128_000),
    ("claude-fable-5", 128_000),
];

/// `max_tokens` of a request that names none: the model's maximum, from the operator or as documented. It is never more than what such a
/// request reserves of budgets and limits. `None`: the maximum is not known.
pub(super) fn of_request_without(target: &Target) -> Option<u64> {
    let most = target.max_output_tokens.or_else(|| documented(&target.model))?;
    Some(most.min(DEFAULT_MAX_OUTPUT.unsigned_abs()))
}

fn documented(model: &str) -> Option<u64> {
    // Servers other than Anthropic's put an organisation before the name.
    let name = &model[model.find("claude-")?..];
    KNOWN.iter().find(|(start, _)| name.starts_with(start)).map(|(_, most)| *most)
}

#[cfg(test)]
mod tests {
    use domain::Deployment;

    use super::*;
    use crate::target::tests::deployment;

    #[test]
    fn the_maximum_of_a_model_is_the_operators_or_the_documented_one() {
        let of = |model: &str, max_output_tokens: Option<u64>| {
            let deployment = Deployment { model: model.into(), max_output_tokens, ..deployment("http://x") };
            of_request_without(&Target::resolve("d", &deployment).unwrap())
        };
        assert_eq!(of("claude-3-haiku-20240307", None), Some(4_096));
        assert_eq!(of("claude-3-5-sonnet-latest", None), Some(8_192));
        assert_eq!(of("anthropic/claude-opus-4-1-20250805", None), Some(32_000));
        assert_eq!(of("claude-opus-4-1", Some(1_000)), Some(1_000));
        assert_eq!((of("claude-of-tomorrow", None), of("claude-of-tomorrow", Some(9))), (None, Some(9)));
        // A request without a maximum reserves no more than this.
        assert_eq!(of("claude-sonnet-4-6", None), Some(32_768));
    }

    #[test]
    fn no_start_hides_a_longer_one() {
        for (at, (longer, _)) in KNOWN.iter().enumerate() {
            assert!(KNOWN[..at].iter().all(|(start, _)| !longer.starts_with(start)), "{longer} is never reached");
        }
    }
}
