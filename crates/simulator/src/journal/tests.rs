use super::*;

const OK: End = End { outcome: Outcome::Ok, status: 200, prompt_tokens: 10, completion_tokens: 3, bytes: 99 };

const ID: &str = "01938c5e-0000-7000-8000-0123456789ab";

fn journal(path: Option<&Path>) -> Journal {
    let journal = Journal::open(Clock::start(), path).expect("open");
    assert_eq!(journal.register("default"), 0);
    journal
}

fn arrive(journal: &Journal, id: &str) -> u64 {
    journal.arrive(0, Endpoint::Chat, ClientId::parse(id))
}

fn lines(journal: &Journal, from: u64) -> Vec<JournalLine<'static>> {
    let mut out = Vec::new();
    journal.lines(from, usize::MAX, &mut out);
    parse(&out)
}

fn parse(text: &[u8]) -> Vec<JournalLine<'static>> {
    let text = std::str::from_utf8(text).expect("UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect("a line")).collect()
}

#[test]
fn a_record_stays_small() {
    assert_eq!(size_of::<Record>(), 56);
}

#[test]
fn a_call_is_open_until_it_ends() {
    let journal = journal(None);
    let seq = arrive(&journal, ID);
    journal.parsed(seq, "sim-\"quoted\"");
    let open = &lines(&journal, 0)[0];
    assert_eq!((open.outcome, open.status, open.ended_us), (Outcome::Open, None, None));

    journal.end(seq, 0, OK);
    let line = &lines(&journal, 0)[0];
    assert_eq!(line.client_request_id.as_deref(), Some(ID));
    assert_eq!((line.seq, line.outcome, line.status), (1, Outcome::Ok, Some(200)));
    assert_eq!((line.prompt_tokens, line.completion_tokens, line.bytes), (10, 3, 99));
    assert_eq!((line.model.as_ref(), line.deployment.as_ref()), ("sim-\"quoted\"", "default"));
    assert!(line.ended_us >= Some(line.arrived_us));
}

#[test]
fn ids_come_back_as_they_were_sent() {
    let journal = journal(None);
    let sent = [ID, &ID.to_uppercase(), &ID.replace('-', ""), "order 7 \"é\""];
    for id in sent {
        arrive(&journal, id);
    }
    journal.arrive(0, Endpoint::Models, ClientId::None);
    let read = lines(&journal, 0);
    let read: Vec<Option<&str>> = read.iter().map(|l| l.client_request_id.as_deref()).collect();
    assert_eq!(read, [Some(sent[0]), Some(sent[1]), Some(sent[2]), Some(sent[3]), None]);
}

#[test]
fn repeated_ids_are_counted_across_pages_and_questions() {
    let journal = journal(None);
    for n in 0..20_000_u128 {
        journal.arrive(0, Endpoint::Chat, ClientId::Uuid(n));
    }
    assert_eq!(journal.stats().duplicates, 0);
    journal.arrive(0, Endpoint::Chat, ClientId::Uuid(5));
    journal.arrive(0, Endpoint::Chat, ClientId::Uuid(19_999));
    arrive(&journal, "text");
    arrive(&journal, "text");
    journal.arrive(0, Endpoint::Chat, ClientId::None);
    journal.arrive(0, Endpoint::Chat, ClientId::None);
    assert_eq!(journal.stats().duplicates, 3);
    assert_eq!(journal.stats().duplicates, 3);
}

#[test]
fn reading_goes_on_at_a_number() {
    let journal = journal(None);
    for _ in 0..10 {
        arrive(&journal, ID);
    }
    let mut out = Vec::new();
    assert_eq!(journal.lines(4, 3, &mut out), 7);
    let seqs: Vec<u64> = parse(&out).iter().map(|line| line.seq).collect();
    assert_eq!(seqs, [4, 5, 6]);
    assert!(lines(&journal, 11).is_empty());
}

#[test]
fn a_reset_forgets_calls_but_not_who_is_still_here() {
    let journal = journal(None);
    let old = arrive(&journal, ID);
    let ended = arrive(&journal, ID);
    journal.end(ended, 0, OK);
    journal.reset();
    let new = arrive(&journal, ID);
    assert!(new > ended);
    let stats = journal.stats();
    assert_eq!((stats.all.calls, stats.all.in_flight, stats.all.max_in_flight), (1, 2, 2));
    assert_eq!(stats.duplicates, 0);

    journal.end(old, 0, OK);
    let stats = journal.stats();
    assert_eq!((stats.all.in_flight, stats.all.prompt_tokens), (1, 0));
    assert!(stats.all.by_outcome.is_empty());
    assert_eq!(lines(&journal, 0).len(), 1);
}

#[test]
fn the_file_outlives_the_journal_and_numbers_go_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("journal.jsonl");
    let first = journal(Some(&path));
    let ended = arrive(&first, ID);
    first.end(ended, 0, OK);
    let open = arrive(&first, "never ended");
    drop(first);
    // As a full disk leaves it.
    let mut torn = std::fs::OpenOptions::new().append(true).open(&path).expect("open");
    std::io::Write::write_all(&mut torn, b"{\"seq\":9").expect("write");

    let second = journal(Some(&path));
    let next = arrive(&second, ID);
    assert_eq!(next, open + 1);
    let text = std::fs::read_to_string(&path).expect("read");
    let whole: Vec<&str> = text.lines().filter(|line| line.ends_with('}')).collect();
    let read = parse(whole.join("\n").as_bytes());
    let seen: Vec<(u64, Outcome)> = read.iter().map(|line| (line.seq, line.outcome)).collect();
    assert_eq!(seen, [(1, Outcome::Open), (1, Outcome::Ok), (2, Outcome::Open), (3, Outcome::Open)]);
}
