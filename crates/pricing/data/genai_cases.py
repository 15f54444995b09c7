"""Calls priced by genai-prices itself, one JSON line each; the Rust tests must come to the same pico-USD.

Line: provider, model as a caller writes it, RFC 3339 time, processing, service tier, disjoint token counts, and the total in
pico-USD, or null where Tollway says "unpriced" (unknown to the package, or a class of tokens without any figure).
"""

import datetime as dt
import itertools
import json
from decimal import Decimal

from genai_prices.data_snapshot import DataSnapshot
from genai_prices.types import Usage

UTC = dt.timezone.utc
TIMES = [
    dt.datetime(2025, 1, 15, 2, 0, tzinfo=UTC),
    dt.datetime(2026, 11, 30, 23, 59, 59, tzinfo=UTC),
    dt.datetime(2026, 12, 1, 0, 0, tzinfo=UTC),
    dt.datetime(2026, 12, 5, 8, 30, tzinfo=UTC),
]
CONTEXTS = [("sync", None), ("provider_batch", None), ("sync", "flex"), ("sync", "priority"), ("provider_batch", "default"), ("sync", "fast")]
# Disjoint counts: input, cache_read, cache_write_5m, cache_write_1h, input_audio, input_image, text, reasoning, output_audio.
USAGES = [
    (1_000, 0, 0, 0, 0, 0, 0, 0, 0),
    (1_234, 567, 89, 12, 0, 0, 345, 67, 0),
    (90_000, 10_000, 0, 0, 0, 0, 10, 0, 0),
    (90_000, 10_000, 1, 0, 0, 0, 10, 0, 0),
    (272_000, 0, 0, 0, 0, 0, 1, 1, 0),
    (271_000, 1_001, 0, 0, 0, 0, 1, 1, 0),
    (10, 0, 0, 0, 2_000, 30, 40, 0, 500),
    (1_100_000, 0, 0, 0, 0, 0, 100_000, 0, 0),
]
EDGES = [
    ("OpenAI", "GPT-6.1-SOL"), ("openai", "gpt-6.1-sol-20260929"), ("openai", "gpt-6.1-sol-2026-09-29"), ("openai", "gpt-6.1-sol-20261399"),
    ("openai", "gpt-6.1-sol-x"), ("my-openai-proxy", "o3"), ("azure", "gpt-6.1-sol"), ("azure", "claude-opus-5-5"), ("google", "claude-sonnet-5-5"),
    ("vertex_ai", "gemini-4-argon-001"), ("google", "gemini-2.5-pro-preview-tts"), ("google", "gemini-2.5-pro-preview-05-06"),
    ("bedrock", "us.openai.gpt-6.1-sol"), ("bedrock", "global.openai.gpt-6.1-sol"), ("amazon", "eu.openai.gpt-6.1-sol"),
    ("typesafe", "typesafe/jev-1.13"), ("typesafe", "jev-1.13-20260101"), ("typesafe", "jev-1.13-2026010"), ("cursor", "grok-4.7[fast=true]"),
    ("nowhere", "gpt-4o"), ("openai", "no-such-model"), ("openai", "moderation"), ("openai", "whisper-1"), ("openrouter", "qwen3-14b:free"),
    (" Anthropic ", "claude-opus-5-20260101"), ("anthropic", "claude-opus-5@20260101"), ("perplexity", "sonar"), ("huggingface-cerebras", "x"),
]  # fmt: skip


def cases(providers, classes, every=40):
    """JSON lines; every n-th plain model, all with tiers, dates or variants in a rotation of times, terms and usages."""
    snapshot = DataSnapshot(providers=providers, from_auto_update=False)
    turns = itertools.count()
    lines = [line(snapshot, classes, p, m, next(turns)) for p, m in EDGES for _ in range(4)]
    for provider in providers:
        for number, model in enumerate(provider.models):
            eventful = isinstance(model.prices, list) or model.price_variants
            if eventful or number % every == 0:
                repeats = 5 if model.price_variants else 1
                lines += [line(snapshot, classes, provider.id, model.id, next(turns)) for _ in range(repeats)]
    return "".join(dict.fromkeys(text for text in lines if text))


def line(snapshot, classes, provider, model, turn):
    # Three lists whose lengths share factors: step through the second and third at their own pace.
    at = TIMES[turn % len(TIMES)]
    processing, tier = CONTEXTS[(turn * 5 + turn // 4) % len(CONTEXTS)]
    counts = USAGES[(turn * 3 + turn // 24) % len(USAGES)]
    try:
        _, found = snapshot.find_provider_model(model, None, provider, None)
        context = context_of(processing, tier)
        owned = any(found is own for own in snapshot.find_provider(None, provider, None).models)
        price = found.get_prices(at, context if owned else None)
        if not whole(price, classes):
            return None
        expected = None if lacks(price, counts) else total(snapshot, provider, model, at, context, counts)
    except LookupError:
        expected = None
    when = at.isoformat().replace("+00:00", "Z")
    return json.dumps([provider, model, when, processing, tier, counts, expected], separators=(",", ":")) + "\n"


def context_of(processing, tier):
    context = {"processing": "batch"} if processing == "provider_batch" else {}
    return context | ({"service_tier": tier, "speed": tier} if tier else {})


def lacks(price, counts):
    """A class of tokens that neither has a price nor a wider class that has one."""
    return price.input_mtok is None or (any(counts[6:]) and price.output_mtok is None)


def whole(price, classes):
    """All figures are whole pico-USD per token, so that both sides can agree to the last digit."""
    figures = [figure for key in classes if (figure := getattr(price, key)) is not None]
    flat = [n for f in figures for n in ([f] if isinstance(f, Decimal) else [f.base, *(t.price for t in f.tiers)])]
    return all(n * 10**6 == int(n * 10**6) for n in flat)


def total(snapshot, provider, model, at, context, counts):
    plain, read, write_5m, write_1h, audio, image, text, reasoning, spoken = counts
    usage = Usage(
        input_tokens=plain + read + write_5m + write_1h + audio + image,
        cache_read_tokens=read,
        cache_write_tokens=write_5m + write_1h,
        cache_write_5m_tokens=write_5m,
        cache_write_1h_tokens=write_1h,
        input_audio_tokens=audio,
        input_image_tokens=image,
        output_tokens=text + reasoning + spoken,
        output_reasoning_tokens=reasoning,
        output_audio_tokens=spoken,
    )
    joined = ["cache_audio_read_tokens", "cache_image_read_tokens", "cache_audio_write_tokens", "cache_image_write_tokens"]
    for key in joined:
        setattr(usage, key, 0)
    usd = snapshot.calc(usage, model, provider, None, at, context).total_price
    pico = usd * 10**12
    assert pico == int(pico), (provider, model, usd)
    return int(pico)
