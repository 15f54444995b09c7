//! An embeddings answer: the vectors come out first, packed; what is left is small and read as JSON.

use bytes::Bytes;
use domain::Endpoint;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    answer::{Bad, Read, object, text},
    base64_vectors::{Packed, sorted, take_vectors},
    usage,
};
use crate::{
    client::{Unfit, error_inside},
    target::Target,
};

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
    #[serde(borrow, default)]
    data: Option<Vec<&'a RawValue>>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
    #[serde(borrow, default)]
    model: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Item {
    #[serde(default)]
    index: Option<u32>,
    /// The row that took the vector's place.
    embedding: u32,
}

/// The size of the answer, as far as the request tells it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Expected {
    /// How many embeddings are asked for, when the request tells.
    pub inputs: Option<usize>,
    /// How wide they shall be.
    pub dimensions: Option<u32>,
}

/// Metering and the vectors in the order of the inputs.
pub(super) fn read(body: &Bytes, expected: Expected, target: &Target) -> Result<Read, Bad> {
    let (envelope, packed) =
        take_vectors(object(body)?).map_err(|bad| bad.or_usage(|| usage::find(body, Endpoint::Embeddings)))?;
    let wire: Wire<'_> =
        serde_json::from_slice(&envelope).map_err(|e| Unfit::json(&e, "is not the JSON of an embeddings answer"))?;
    let usage = usage::read(wire.usage, Endpoint::Embeddings);
    if let Some(error) = wire.error {
        let mut said = error_inside(error, body.clone(), target);
        said.usage = usage;
        return Err(Bad::Said(said));
    }
    let garbage = |what: &'static str| Bad::from(Unfit::garbage(what).with_usage(usage));
    let data = wire.data.ok_or_else(|| garbage("has no data"))?;
    let items: Result<Vec<Item>, _> = data.iter().map(|item| serde_json::from_str(item.get())).collect();
    let items = items.map_err(|_| garbage("has an item that is no embedding"))?;
    let in_place = items.iter().enumerate().all(|(row, item)| item.embedding as usize == row);
    if !in_place || items.len() != packed.rows {
        return Err(garbage("has embeddings in the wrong places"));
    }
    if items.is_empty() || expected.inputs.is_some_and(|inputs| inputs != items.len()) {
        return Err(garbage("has the wrong number of embeddings"));
    }
    check_encoding(&packed, expected, target).map_err(|unfit| Bad::Encoding(unfit.with_usage(usage)))?;
    let order = order(&items).ok_or_else(|| garbage("has embeddings whose indexes are not 0, 1, 2, …"))?;
    let model = text(wire.model);
    let slices: Vec<&str> = data.iter().map(|item| item.get()).collect();
    let sorted = sorted(std::str::from_utf8(&envelope).unwrap_or_default(), &slices, &order);
    if expected.dimensions.is_none() {
        target.has_width(packed.dims());
    }
    let vectors = packed.ordered(&order);
    Ok(Read {
        envelope: Some(sorted.unwrap_or(envelope).into()),
        vectors: Some(vectors),
        usage,
        model,
        ..Read::default()
    })
}

/// Numbers in JSON are what they say. Packed ones may be doubles, or in another byte order: their width and their sizes tell.
fn check_encoding(packed: &Packed, expected: Expected, target: &Target) -> Result<(), Unfit> {
    if !packed.is_base64 {
        return Ok(());
    }
    let known = expected.dimensions.or_else(|| target.width());
    if let Some(width) = known.filter(|width| *width != packed.dims()) {
        let what = format!("has embeddings in base64 of {} floats, not of {width}", packed.dims());
        return Err(Unfit::garbage(what));
    }
    if !packed.is_plausible() {
        return Err(Unfit::garbage("has embeddings in base64 that are not of little-endian 32-bit floats"));
    }
    Ok(())
}

/// For each item the row it belongs in. A server that numbers none means the order in which they stand.
fn order(items: &[Item]) -> Option<Vec<u32>> {
    if items.len() == 1 || items.iter().all(|item| item.index.is_none()) {
        return Some((0..items.len() as u32).collect());
    }
    let mut seen = vec![false; items.len()];
    let order: Vec<u32> = items.iter().map(|item| item.index).collect::<Option<_>>()?;
    for row in &order {
        let taken = seen.get_mut(*row as usize)?;
        if std::mem::replace(taken, true) {
            return None;
        }
    }
    Some(order)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Vectors, render_embeddings, target::tests::deployment};
    use domain::ErrorClass;
    use proptest::prelude::*;

    fn take(body: &str, inputs: usize) -> Result<Read, ErrorClass> {
        let target = Target::resolve("d", &deployment("http://x")).unwrap();
        read(&Bytes::copy_from_slice(body.as_bytes()), Expected { inputs: Some(inputs), dimensions: None }, &target)
            .map_err(|bad| match bad {
                Bad::Unfit(unfit) | Bad::Encoding(unfit) => unfit.class,
                Bad::Said(error) => error.class,
            })
    }

    fn floats(vectors: &Vectors) -> Vec<f32> {
        vectors.data.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    }

    #[test]
    fn both_forms_give_the_same_rows() {
        for body in [
            r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.1, -2]},{"object":"embedding","index":1,"embedding":[1e-20,-0.0]}],"model":"e5","usage":{"prompt_tokens":8,"total_tokens":8}}"#,
            r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":"zczMPQAAAMA="},{"object":"embedding","index":1,"embedding":"COU8HgAAAIA"}],"model":"e5","usage":{"prompt_tokens":8,"total_tokens":8}}"#,
        ] {
            let read = take(body, 2).unwrap();
            let vectors = read.vectors.unwrap();
            assert_eq!((vectors.dims, vectors.count), (2, 2));
            assert_eq!(floats(&vectors), [0.1, -2.0, 1e-20, -0.0]);
            assert_eq!(read.usage.and_then(|usage| usage.prompt_total()), Some(8));
            assert_eq!(read.model.as_deref(), Some("e5"));
            assert_eq!(
                read.envelope.unwrap(),
                &br#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":0},{"object":"embedding","index":1,"embedding":1}],"model":"e5","usage":{"prompt_tokens":8,"total_tokens":8}}"#[..]
            );
        }
    }

    #[test]
    fn rows_are_sorted_by_index_for_the_caller_too() {
        let body = r#"{"data": [{"index":1,"embedding":[1.5]}, {"x":[{}],"index":2,"embedding":[2.5]} ,{"embedding":[0.5],"index":0}],"model":"m"}"#;
        let read = take(body, 3).unwrap();
        let vectors = read.vectors.unwrap();
        assert_eq!(floats(&vectors), [0.5, 1.5, 2.5]);
        let mut rendered = Vec::new();
        render_embeddings(&read.envelope.unwrap(), &vectors, false, &mut rendered);
        assert_eq!(
            String::from_utf8(rendered).unwrap(),
            r#"{"data": [{"embedding":[0.5],"index":0}, {"index":1,"embedding":[1.5]} ,{"x":[{}],"index":2,"embedding":[2.5]}],"model":"m"}"#
        );
    }

    fn base64_of(bytes: impl IntoIterator<Item = [u8; 8]>) -> String {
        use base64::{Engine, engine::general_purpose::STANDARD};
        let packed = STANDARD.encode(bytes.into_iter().flatten().collect::<Vec<u8>>());
        format!(r#"{{"data":[{{"index":0,"embedding":"{packed}"}}],"usage":{{"prompt_tokens":3}}}}"#)
    }

    fn encoding_of(body: &str, dimensions: Option<u32>, target: &Target) -> Option<Option<i64>> {
        let expected = Expected { inputs: Some(1), dimensions };
        match read(&Bytes::copy_from_slice(body.as_bytes()), expected, target) {
            Err(Bad::Encoding(unfit)) => Some(unfit.usage.and_then(|usage| usage.total())),
            read => read.map(|_| None).unwrap(),
        }
    }

    #[test]
    fn doubles_in_base64_are_refused_and_what_they_cost_is_known() {
        let target = Target::resolve("d", &deployment("http://x")).unwrap();
        let doubles = base64_of([0.6f64, -0.8].map(f64::to_le_bytes));
        assert_eq!(encoding_of(&doubles, None, &target), Some(Some(3)));
        assert_eq!(encoding_of(&doubles, Some(2), &target), Some(Some(3)), "its width is not the one asked for");
    }

    #[test]
    fn the_width_that_floats_had_is_the_width_of_the_model() {
        let target = Target::resolve("d", &deployment("http://x")).unwrap();
        // Two pairs of 32-bit floats; read as doubles they are nothing special.
        let four = base64_of([[0.5f32, -0.25], [3.0, 7.5]].map(|pair| {
            let [a, b] = pair.map(f32::to_le_bytes);
            [a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3]]
        }));
        assert_eq!(encoding_of(&four, None, &target), None);
        assert_eq!(target.width(), Some(4));
        assert_eq!(encoding_of(&four, Some(2), &target), Some(Some(3)));
        encoding_of(r#"{"data":[{"index":0,"embedding":[0.5,1.5]}]}"#, None, &target);
        assert_eq!(target.width(), Some(2), "numbers in JSON are what they say");
        assert_eq!(encoding_of(&four, None, &target), Some(Some(3)));
    }

    #[test]
    fn more_digits_than_an_f32_holds_are_rounded_to_the_nearest() {
        let read = take(r#"{"data":[{"embedding":[0.10000000149011612,0.1,16777217.0,1E-3]}]}"#, 1).unwrap();
        assert_eq!(floats(&read.vectors.unwrap()), [0.1, 0.1, 16777216.0, 0.001]);
    }

    #[test]
    fn what_is_no_embeddings_answer_is_refused() {
        let one = |embedding: &str| format!(r#"{{"data":[{{"index":0,"embedding":{embedding}}}]}}"#);
        for embedding in [
            "null",
            "[]",
            "0",
            "[null]",
            "[NaN]",
            "[1e99]",
            "[+1]",
            "[1,]",
            "[[1]]",
            "[\"1\"]",
            "\"\"",
            "\"AAA\"",
            "\"AADAfw==\"",
            "\"????\"",
        ] {
            assert_eq!(take(&one(embedding), 1).map(|_| ()), Err(ErrorClass::Garbage), "{embedding}");
        }
        let two = |second: &str| format!(r#"{{"data":[{{"index":0,"embedding":[1]}},{second}]}}"#);
        for second in [
            r#"{"index":0,"embedding":[1]}"#,
            r#"{"index":2,"embedding":[1]}"#,
            r#"{"index":1,"embedding":[1,2]}"#,
            r#"{"embedding":[1]}"#,
            r#"{"index":1}"#,
        ] {
            assert_eq!(take(&two(second), 2).map(|_| ()), Err(ErrorClass::Garbage), "{second}");
        }
        assert_eq!(take(&one("[1]"), 2).map(|_| ()), Err(ErrorClass::Garbage));
        assert_eq!(take(r#"{"data":[]}"#, 0).map(|_| ()), Err(ErrorClass::Garbage));
        assert_eq!(take("[1]", 1).map(|_| ()), Err(ErrorClass::Garbage));
        assert_eq!(take(r#"{"error":{"code":503}}"#, 1).map(|_| ()), Err(ErrorClass::Overloaded));
    }

    #[test]
    fn an_answer_cut_anywhere_is_cut() {
        let whole = r#"{"data":[{"index":0,"embedding":[1,2]},{"index":1,"embedding":"AAAAAAAAAAA="}]}"#;
        assert!(take(whole, 2).is_ok());
        for end in 0..whole.len() {
            assert_eq!(take(&whole[..end], 2).map(|_| ()), Err(ErrorClass::Cut), "{}", &whole[..end]);
        }
    }

    proptest! {
        #[test]
        fn every_finite_f32_survives_both_forms(floats in proptest::collection::vec(proptest::num::f32::NORMAL | proptest::num::f32::SUBNORMAL | proptest::num::f32::ZERO, 1..40)) {
            let data: Bytes = floats.iter().flat_map(|f| f.to_le_bytes()).collect();
            let vectors = Vectors { dims: floats.len() as u32, count: 1, data };
            for as_base64 in [false, true] {
                if as_base64 && !crate::openai::plausible::is_embedding(&vectors.data) {
                    continue;
                }
                let mut body = Vec::new();
                render_embeddings(br#"{"data":[{"embedding":0}]}"#, &vectors, as_base64, &mut body);
                let read = take(std::str::from_utf8(&body).unwrap(), 1).unwrap();
                prop_assert_eq!(&read.vectors.unwrap(), &vectors);
            }
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in r#"[\{\}\[\]":,0-9a-z.\\ ]{0,60}"#, at in 0usize..60) {
            let mut body = r#"{"data":[{"embedding":[1,2],"index":0}]}"#.to_owned();
            let at = at.min(body.len());
            body.insert_str(at, &text);
            let _ = take(&body, 1);
        }
    }
}
