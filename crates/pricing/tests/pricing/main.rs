//! What the crate promises to those who call it, one file per promise.

mod charges;
mod fixtures;
mod genai;
mod own_prices;
mod properties;

use chrono::{DateTime, Utc};
use domain::Usage;
use pricing::{PriceList, PriceQuery, Processing, Terms};

pub const NOW: &str = "2026-11-22T12:00:00Z";

pub fn at(time: &str) -> DateTime<Utc> {
    time.parse().unwrap()
}

pub fn batch() -> Terms<'static> {
    Terms { processing: Processing::ProviderBatch, service_tier: None }
}

pub fn tier(tier: &str) -> Terms<'_> {
    Terms { processing: Processing::Sync, service_tier: Some(tier) }
}

pub fn price(provider: &str, model: &str, time: &str, terms: Terms<'_>) -> pricing::Price {
    let query = PriceQuery { provider, model, processing: terms.processing, service_tier: terms.service_tier };
    PriceList::shipped().find(&query, at(time)).unwrap()
}

/// Counts in the order input, cache_read, cache_write_5m, cache_write_1h, input_audio, input_image, text, reasoning, audio.
pub fn usage(counts: [i64; 9]) -> Usage {
    let [input, read, write_5m, write_1h, audio, image, text, reasoning, spoken] = counts.map(Some);
    Usage {
        input_uncached: input,
        cache_read: read,
        cache_write_5m: write_5m,
        cache_write_1h: write_1h,
        input_audio: audio,
        input_image: image,
        output_text: text,
        output_reasoning: reasoning,
        output_audio: spoken,
        ..Usage::default()
    }
}
