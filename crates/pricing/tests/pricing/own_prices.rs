use domain::{Usage, catalog::OwnPrice, ledger::PriceStatus};
use pricing::{BadPrice, Class, Flaw, PriceList, PriceQuery, Processing, Terms, Unpriced, charge};

use crate::{NOW, at, batch, usage};

fn own(provider: &str, model: &str) -> OwnPrice {
    OwnPrice {
        provider: provider.into(),
        model: model.into(),
        free: false,
        input: None,
        output: None,
        cache_read: None,
        cache_write: None,
        from: None,
    }
}

fn usd(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn day(text: &str) -> Option<chrono::NaiveDate> {
    Some(text.parse().unwrap())
}

fn input(list: &PriceList, provider: &str, model: &str, time: &str) -> Result<i64, Unpriced> {
    let query = PriceQuery { provider, model, processing: Processing::Sync, service_tier: None };
    Ok(list.find(&query, at(time))?.rate(Class::Input, 0).unwrap())
}

#[test]
fn an_own_price_wins_and_the_list_price_stays_known() {
    let negotiated = OwnPrice { input: usd("1.5"), output: usd("8"), ..own("openai", "gpt-6.1-sol") };
    let list = PriceList::shipped().with_own(&[negotiated]).unwrap();
    let model = list.resolve("openai", "gpt-6.1-sol").unwrap();
    assert!(model.is_own());
    let price = model.at(at(NOW), Terms::sync()).unwrap();
    let cost = charge(&price, &usage([1_000_000, 0, 0, 0, 0, 0, 1_000_000, 0, 0])).unwrap();
    assert_eq!(cost.contracted_cost.unwrap().to_string(), "9.50");
    // The list's long-context tier.
    assert_eq!(cost.list_cost.unwrap().to_string(), "19.00");
    assert_eq!(cost.status, PriceStatus::Priced);
    assert!(cost.price_version.unwrap().starts_with("own-"));
    // Own prices know no batch: the same price, and exactly that.
    assert!(model.at(at(NOW), batch()).unwrap().is_exact());
}

#[test]
fn free_is_zero_and_still_priced() {
    let list = PriceList::shipped().with_own(&[OwnPrice { free: true, ..own("local", "nano-e5") }]).unwrap();
    let query = PriceQuery { provider: "local", model: "nano-e5", processing: Processing::Sync, service_tier: None };
    let cost = charge(&list.find(&query, at(NOW)).unwrap(), &usage([7, 1, 1, 1, 1, 1, 1, 1, 1])).unwrap();
    assert_eq!((cost.contracted_cost, cost.status), (Some(domain::Money::ZERO), PriceStatus::Priced));
}

#[test]
fn the_latest_price_that_has_begun_holds_and_before_the_first_the_list() {
    let list = PriceList::shipped()
        .with_own(&[
            OwnPrice { input: usd("3"), from: day("2026-12-01"), ..own("openai", "gpt-6.1-sol") },
            OwnPrice { input: usd("5"), from: day("2027-01-01"), ..own("openai", "gpt-6.1-sol") },
            OwnPrice { input: usd("0.000001"), from: day("2026-12-01"), ..own("local", "m") },
        ])
        .unwrap();
    let sol = |time| input(&list, "openai", "gpt-6.1-sol", time).unwrap();
    let times = ["2026-11-30T23:59:59Z", "2026-12-01T00:00:00Z", "2026-12-31T23:59:59Z", "2027-01-01T00:00:00Z"];
    assert_eq!(times.map(sol), [2_000_000, 3_000_000, 3_000_000, 5_000_000]);
    assert_eq!(input(&list, "local", "m", times[1]), Ok(1));
    let early = input(&list, "local", "m", times[0]).unwrap_err();
    assert!(matches!(&early, Unpriced::NotYet { from, .. } if Some(*from) == day("2026-12-01")), "{early}");
}

#[test]
fn names_are_exact() {
    let list = PriceList::shipped().with_own(&[OwnPrice { input: usd("1"), ..own("local", "m") }]).unwrap();
    assert!(matches!(input(&list, "Local", "m", NOW), Err(Unpriced::UnknownProvider { .. })));
    assert!(input(&list, "local", "M", NOW).is_err());
}

#[test]
fn the_billed_model_counts_unless_the_price_is_own() {
    let list = PriceList::shipped().with_own(&[OwnPrice { input: usd("1"), ..own("openai", "gpt-4o") }]).unwrap();
    let rate = |list: &PriceList, billed| {
        let model = list.resolve_billed("openai", "gpt-4o", billed).unwrap();
        model.at(at(NOW), Terms::sync()).unwrap().rate(Class::Input, 0).unwrap()
    };
    assert_eq!(rate(&list, "gpt-4o-2024-05-13"), 1_000_000);
    assert_eq!(rate(&PriceList::shipped(), "gpt-4o-2024-05-13"), 5_000_000);
    assert_eq!(rate(&PriceList::shipped(), "garbage"), 2_500_000);
    assert!(PriceList::shipped().resolve_billed("openai", "nothing", "garbage").is_err());
}

#[test]
fn a_bad_price_says_what_is_wrong_with_it() {
    let flaw = |price: OwnPrice| {
        let BadPrice { provider, model, flaw } = PriceList::shipped().with_own(&[price]).unwrap_err();
        assert_eq!((provider.as_str(), model.as_str()), ("p", "m"));
        flaw
    };
    let with = |input: &str| OwnPrice { input: usd(input), ..own("p", "m") };
    assert_eq!(flaw(own("p", "m")), Flaw::NoInput);
    assert_eq!(flaw(OwnPrice { output: usd("1"), ..own("p", "m") }), Flaw::NoInput);
    assert_eq!(flaw(OwnPrice { free: true, ..with("1") }), Flaw::FreeWithFigures);
    assert_eq!(flaw(with("-1")), Flaw::Negative { field: "input", given: "-1".into() });
    assert_eq!(flaw(with("0.00")), Flaw::Zero { field: "input" });
    assert_eq!(flaw(OwnPrice { output: usd("0"), ..with("1") }), Flaw::Zero { field: "output" });
    for text in ["", "free", "1e-3", "$1", "0.0000001", "99999999999"] {
        assert_eq!(flaw(with(text)), Flaw::NotAnAmount { field: "input", given: text.into() });
    }
    let twice = PriceList::shipped().with_own(&[with("1"), with("2")]).unwrap_err();
    assert_eq!(twice.to_string(), r#"[[prices]] for "p" "m": two prices begin on the same day"#);
}

#[test]
fn other_figures_make_another_version() {
    let version = |price: OwnPrice| {
        let list = PriceList::shipped().with_own(&[price]).unwrap();
        list.resolve("p", "m").unwrap().at(at(NOW), Terms::sync()).unwrap().version().clone()
    };
    let one = OwnPrice { input: usd("1"), ..own("p", "m") };
    assert_eq!(version(one.clone()), version(one.clone()));
    assert_ne!(version(one.clone()), version(OwnPrice { output: usd("1"), ..one }));
}

#[test]
fn an_own_price_without_output_leaves_output_unpriced() {
    let list = PriceList::shipped().with_own(&[OwnPrice { input: usd("1"), ..own("p", "m") }]).unwrap();
    let price = list.resolve("p", "m").unwrap().at(at(NOW), Terms::sync()).unwrap();
    let status = |output| {
        let usage = Usage { input_uncached: Some(5), output_text: output, ..Usage::default() };
        charge(&price, &usage).unwrap().status
    };
    let seen = [None, Some(0), Some(1)].map(status);
    assert_eq!(seen, [PriceStatus::Priced, PriceStatus::Priced, PriceStatus::Unpriced]);
}

#[test]
fn a_price_for_input_alone_covers_no_call_with_output() {
    let covers = |list: &PriceList, provider, model| {
        list.resolve(provider, model).unwrap().at(at(NOW), Terms::sync()).unwrap().covers_output()
    };
    let input_only = PriceList::shipped().with_own(&[OwnPrice { input: usd("1"), ..own("p", "m") }]).unwrap();
    assert!(!covers(&input_only, "p", "m"));
    let cached = PriceList::shipped()
        .with_own(&[OwnPrice { input: usd("1"), cache_read: usd("0.1"), ..own("p", "m") }])
        .unwrap();
    assert!(!covers(&cached, "p", "m"), "cached input is input");
    let both =
        PriceList::shipped().with_own(&[OwnPrice { input: usd("1"), output: usd("2"), ..own("p", "m") }]).unwrap();
    assert!(covers(&both, "p", "m"));
    let free = PriceList::shipped().with_own(&[OwnPrice { free: true, ..own("p", "m") }]).unwrap();
    assert!(covers(&free, "p", "m"));
    assert!(!covers(&PriceList::shipped(), "openai", "text-embedding-3-small"));
    assert!(covers(&PriceList::shipped(), "openai", "gpt-4o"));
}

/// Cached input costs plain input and reasoning costs output where nothing else is said; audio costs a multiple of text.
#[test]
fn classes_that_an_own_price_does_not_name() {
    let price = OwnPrice { input: usd("1"), output: usd("2"), ..own("p", "m") };
    let list = PriceList::shipped().with_own(&[price]).unwrap();
    let price = list.resolve("p", "m").unwrap().at(at(NOW), Terms::sync()).unwrap();
    let seen = |usage: Usage| {
        let charge = charge(&price, &usage).unwrap();
        (charge.contracted_cost.unwrap().pico(), charge.status)
    };
    let plain = Usage { input_uncached: Some(10), output_text: Some(5), ..Usage::default() };
    assert_eq!(seen(plain), (20_000_000, PriceStatus::Priced));
    assert_eq!(seen(Usage { cache_read: Some(3), ..plain }), (23_000_000, PriceStatus::Priced));
    assert_eq!(seen(Usage { output_reasoning: Some(2), ..plain }), (24_000_000, PriceStatus::Priced));
    assert_eq!(seen(Usage { input_audio: Some(1), ..plain }), (21_000_000, PriceStatus::Estimated));
    assert_eq!(seen(Usage { output_audio: Some(1), ..plain }), (22_000_000, PriceStatus::Estimated));
    assert_eq!(seen(Usage { input_audio: Some(0), ..plain }).1, PriceStatus::Priced);
}
