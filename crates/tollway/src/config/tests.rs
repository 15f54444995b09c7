use std::path::Path;

use super::{Config, ConfigError, load::parse};

const FILE: &str = "tollway.toml";

fn read(text: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    parse(Path::new(FILE), text, environment).map(|(config, _)| config)
}

#[track_caller]
fn refused(text: &str, environment: &[(&str, &str)], expected: &str) {
    let said = read(text, environment).expect_err("refused").to_string();
    assert_eq!(said, expected);
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_the_nearest_valid_one() {
    refused("\n[worker]\nslotz = 3\n", &[], "tollway.toml:3: unknown key worker.slotz; did you mean worker.slots?");
    refused("[servr]\n", &[], "tollway.toml:1: unknown key servr; did you mean server?");
    refused(
        "[deployments.a]\nkind = 'openai'\nbase_url = 'http://h/v1'\nmodel = 'm'\nrpms = 3\n",
        &[],
        "tollway.toml:5: unknown key deployments.a.rpms; did you mean deployments.a.rpm?",
    );
    refused(
        "[[prices]]\nprovider = 'p'\nmodel = 'm'\ninputs = '1'\n",
        &[],
        "tollway.toml:4: unknown key prices.0.inputs; did you mean prices.0.input?",
    );
    refused("[teams.search.lanes.bulk]\nslot = 3\n", &[], {
        "tollway.toml:2: unknown key teams.search.lanes.bulk.slot; did you mean teams.search.lanes.bulk.slots?"
    });
}

#[test]
fn a_key_like_no_other_is_told_which_there_are() {
    refused("[retention]\nforever = true\n", &[], {
        "tollway.toml:2: unknown key retention.forever; the keys of retention are days"
    });
}

#[test]
fn a_value_of_the_wrong_kind_is_placed() {
    refused("[worker]\nslots = 'many'\n", &[], {
        "tollway.toml:2: worker.slots: invalid type: string \"many\", expected usize"
    });
    refused("[server]\nlisten = 'here'\n", &[], "tollway.toml:2: server.listen: invalid socket address syntax");
    refused("[lanes.Bulk]\nclass = 'weighted'\n", &[], {
        "tollway.toml:1: lanes.Bulk: \"Bulk\" is not a lane's name: 1 to 32 lower-case letters, digits, - or _"
    });
    let said = read("[worker\n", &[]).expect_err("refused").to_string();
    assert!(said.starts_with("tollway.toml:1: "), "{said}");
}

#[test]
fn values_that_no_process_could_run_with_are_refused() {
    refused("[worker]\nslots = 0\n", &[], "tollway.toml:2: worker.slots: must be at least 1");
    refused("[server]\nmax_connections = 3\n", &[], "tollway.toml:2: server.max_connections: must be at least 16");
    refused("[lake]\nurl = 'gs://b'\n", &[], "tollway.toml:2: lake.url: must be a folder, or s3://bucket/prefix");
    refused("[approval]\nabove_usd = '-1'\n", &[], "tollway.toml:2: approval.above_usd: must not be below zero");
    refused("[quotas]\npending_gb = 0\n", &[], "tollway.toml:2: quotas.pending_gb: must be at least 1");
    refused("[teams.a]\npending_requests = 0\n", &[], {
        "tollway.toml:2: teams.a.pending_requests: must be at least 1"
    });
    refused("[teams.a]\nslots = 3\n[teams.a.lanes.bulk]\nslots = 4\n", &[], {
        "tollway.toml:4: teams.a.lanes.bulk.slots: is 4, more than the 3 of the whole team"
    });
    refused("", &[("TOLLWAY_WORKER__LEASE_S", "1")], "tollway.toml: worker.lease_s: must be at least 5");
}

#[test]
fn a_literal_secret_is_refused_and_not_repeated() {
    let says = "must be env:NAME or file:PATH, where the secret can be read, never the secret itself";
    refused("[database]\nurl = 'postgres://u:canary@h/d'\n", &[], &format!("tollway.toml:2: database.url: {says}"));
    refused("[secrets]\npepper = 'canary'\n", &[], &format!("tollway.toml:2: secrets.pepper: {says}"));
    refused(
        "[deployments.a]\nkind = 'openai'\nbase_url = 'http://h/v1'\nmodel = 'm'\ncredential = 'sk-canary'\n",
        &[],
        &format!("tollway.toml:5: deployments.a.credential: {says}"),
    );
    let expected = format!("environment variable TOLLWAY_DATABASE__URL: database.url: {says}");
    refused("", &[("TOLLWAY_DATABASE__URL", "postgres://u:canary@h/d")], &expected);
}

#[test]
fn the_environment_overrides_the_file() {
    let text = "[worker]\nslots = 3\n[deployments.gpt-sim]\nkind = 'openai'\nbase_url = 'http://h/v1'\nmodel = 'm'\n";
    let config = read(
        text,
        &[
            ("TOLLWAY_WORKER__SLOTS", "9"),
            ("TOLLWAY_SERVER__LISTEN", "0.0.0.0:80"),
            ("TOLLWAY_WEBHOOKS__ALLOW_PRIVATE_HOSTS", "true"),
            ("TOLLWAY_DEPLOYMENTS__GPT_SIM__MODEL", "42"),
            ("TOLLWAY_ROUTES__CHAT__DEPLOYMENTS", "['gpt-sim']"),
            ("TOLLWAY_URL", "http://elsewhere"),
            ("PATH", "/bin"),
        ],
    )
    .unwrap();
    assert_eq!((config.worker.slots, config.server.listen.port()), (9, 80));
    assert!(config.webhooks.allow_private_hosts);
    assert_eq!(config.deployments["gpt-sim"].model, "42");
    assert_eq!(config.routes["chat"].deployments, ["gpt-sim"]);
}

#[test]
fn a_wrong_override_is_named_by_its_variable() {
    refused("", &[("TOLLWAY_WORKER__SLOTZ", "9")], {
        "environment variable TOLLWAY_WORKER__SLOTZ: unknown key worker.slotz; did you mean worker.slots?"
    });
    refused("", &[("TOLLWAY_WORKERS__SLOTS", "9")], {
        "environment variable TOLLWAY_WORKERS__SLOTS: unknown key workers; did you mean worker?"
    });
    refused("", &[("TOLLWAY_WORKER__SLOTS", "many")], {
        "environment variable TOLLWAY_WORKER__SLOTS: worker.slots: invalid type: string \"many\", expected usize"
    });
    refused("prices = []\n", &[("TOLLWAY_PRICES__MODEL", "m")], {
        "environment variable TOLLWAY_PRICES__MODEL: prices has no keys below it"
    });
}

#[test]
fn a_date_is_a_date_with_quotes_and_without() {
    let price = |from: &str| format!("[[prices]]\nprovider = 'p'\nmodel = 'm'\ninput = '1'\nfrom = {from}\n");
    let january = chrono::NaiveDate::from_ymd_opt(2026, 1, 1);
    for from in ["2026-01-01", "'2026-01-01'", "\"2026-01-01\""] {
        assert_eq!(read(&price(from), &[]).unwrap().prices[0].from, january, "{from}");
        // What replicas agree on is kept as JSON, and a variable has the whole document read once more.
        let again = read(&price(from), &[("TOLLWAY_WORKER__SLOTS", "9")]).unwrap();
        assert_eq!(again.prices[0].from, january, "{from}");
        let document = serde_json::to_value(again.catalog()).unwrap();
        assert_eq!(document["prices"][0]["from"], "2026-01-01");
    }
    let inline = "prices = [{ provider = 'p', model = 'm', input = '1', from = 2026-01-01 }]\n";
    assert_eq!(read(inline, &[]).unwrap().prices[0].from, january);
    for (wrong, shown) in
        [("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"), ("10:30:00", "10:30:00"), ("'soon'", "soon")]
    {
        let expected = format!("tollway.toml:5: prices.0.from: {shown:?} is not a day; write it as 2026-01-31");
        refused(&price(wrong), &[], &expected);
    }
    // Behind a date, errors still have their line.
    let text = format!("{}[worker]\nslotz = 1\n", price("2026-01-01"));
    refused(&text, &[], "tollway.toml:7: unknown key worker.slotz; did you mean worker.slots?");
}

/// The example with each key that stands behind a `#`, as an operator uncomments it.
fn uncommented(example: &str) -> String {
    let is_setting = |line: &str| {
        let key = line.split_once(" = ").map(|(key, _)| key);
        line.starts_with('[') || key.is_some_and(|key| key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
    };
    let line = |line: &str| match line.strip_prefix("# ") {
        Some(commented) if is_setting(commented) => commented.to_owned(),
        _ => line.to_owned(),
    };
    example.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn every_key_of_the_example_is_taken_as_it_stands() {
    let text = uncommented(include_str!("../../../../tollway.example.toml"));
    let config = read(&text, &[]).unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert_eq!(config.prices[0].from, chrono::NaiveDate::from_ymd_opt(2026, 1, 1));
    assert!(config.database.url.is_some() && config.lake.url.is_some() && config.secrets.pepper.is_some());
    assert!(!config.alerts.is_empty() && !config.budgets.is_empty() && !config.teams.is_empty());
    let mut catalog = config.catalog();
    // The example's variables are nobody's here.
    catalog.deployments.values_mut().for_each(|deployment| deployment.credential = None);
    admission::catalog::ActiveCatalog::build(1, catalog).unwrap();
}

#[test]
fn the_example_holds_every_key_with_its_default() {
    let text = include_str!("../../../../tollway.example.toml");
    let config = read(text, &[]).unwrap();
    let default = Config::default();
    assert_eq!((&config.server, &config.worker), (&default.server, &default.worker));
    assert_eq!((&config.retention, &config.webhooks), (&default.retention, &default.webhooks));
    assert_eq!(config.lanes, domain::Catalog::default_lanes());
    assert_eq!(config.quotas, default.quotas);
    // Every key that a section takes stands in the example, in force or behind a `#`.
    for (section, wrong) in [
        ("server", "[server]\nno_such_key = 1\n"),
        ("database", "[database]\nno_such_key = 1\n"),
        ("worker", "[worker]\nno_such_key = 1\n"),
        ("lake", "[lake]\nno_such_key = 1\n"),
        ("retention", "[retention]\nno_such_key = 1\n"),
        ("webhooks", "[webhooks]\nno_such_key = 1\n"),
        ("secrets", "[secrets]\nno_such_key = 1\n"),
        ("lanes", "[lanes.bulk]\nno_such_key = 1\n"),
        ("deployments", "[deployments.a]\nno_such_key = 1\n"),
        ("routes", "[routes.a]\nno_such_key = 1\n"),
        ("teams", "[teams.a]\nno_such_key = 1\n"),
        ("quotas", "[quotas]\nno_such_key = 1\n"),
        ("approval", "[approval]\nno_such_key = 1\n"),
        ("prices", "[[prices]]\nno_such_key = 1\n"),
        ("alerts", "[alerts.a]\nno_such_key = 1\n"),
    ] {
        let error = toml::from_str::<Config>(wrong).expect_err("refused");
        let unknown = super::unknown::parse(error.message()).expect("an unknown field");
        let mut inside = false;
        let keys: Vec<&str> = text
            .lines()
            .filter_map(|line| {
                let line = line.trim_start_matches(['#', ' ']);
                if line.starts_with('[') {
                    inside = line.trim_matches(['[', ']']).split('.').next() == Some(section);
                }
                inside.then(|| line.split_once(" = ")).flatten().map(|(key, _)| key)
            })
            .collect();
        for key in unknown.valid.iter().filter(|key| *key != "lanes") {
            assert!(keys.contains(&key.as_str()), "tollway.example.toml does not show {section}.{key}");
        }
    }
}

#[test]
fn a_section_left_out_has_its_defaults() {
    let settings = read("", &[]).unwrap().settings();
    let default = engine::Settings::default();
    assert_eq!((settings.slots, settings.lease, settings.drain), (default.slots, default.lease, default.drain));
    assert_eq!((settings.retention, settings.max_body), (default.retention, default.max_body));
    assert_eq!((settings.max_lines, settings.max_upload), (default.max_lines, default.max_upload));
    assert_eq!((settings.max_uploads, settings.uploads), (default.max_uploads, default.uploads));
    assert_eq!((settings.connections, settings.shutdown_delay), (default.connections, default.shutdown_delay));
}

#[test]
fn a_receiver_that_could_not_be_told_is_refused() {
    refused("[alerts.ops]\nkind = 'webhook'\nurl = 'env:URL'\n", &[], {
        "tollway.toml: alerts.ops.secret: must be set: what its messages are signed with, as env:NAME or file:PATH"
    });
    refused("[alerts.ops]\nkind = 'slack'\nurl = 'env:URL'\nsecret = 'env:S'\n", &[], {
        "tollway.toml:4: alerts.ops.secret: is not for Slack, which checks no signatures"
    });
    refused("[alerts.ops]\nkind = 'slack'\nurl = 'https://hooks.slack.com/canary'\n", &[], {
        "tollway.toml:3: alerts.ops.url: must be env:NAME or file:PATH, where the secret can be read, never the secret itself"
    });
    refused("[alerts.ops]\nkind = 'mail'\n", &[], {
        "tollway.toml:2: alerts.ops.kind: unknown variant `mail`, expected `slack` or `webhook`"
    });
}

#[test]
fn a_receiver_on_a_private_address_is_refused_with_the_reason() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "http://10.0.0.1/hook\n").unwrap();
    let text = format!("[alerts.ops]\nkind = 'slack'\nurl = 'file:{}'\n", file.path().display());
    let said = read(&text, &[]).unwrap().receivers().unwrap_err().to_string();
    assert_eq!(said, "alerts.ops.url: it leads to a private address, which this gateway does not send to");
    let allowed = read(&text, &[("TOLLWAY_WEBHOOKS__ALLOW_PRIVATE_HOSTS", "true")]).unwrap();
    assert_eq!(allowed.receivers().unwrap().len(), 1);
}
