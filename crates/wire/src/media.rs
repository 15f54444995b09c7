//! What a call's input counts as: text by its bytes, tokens one by one, images by the model's rule, other media by a bound that is
//! documented. The payload of images, audio and files has far more bytes than tokens, so it does not count as text.

use domain::line::estimate_tokens;

/// Audio, video and files that the body names by address or id: their size is not known.
pub const REMOTE_MEDIA: i64 = 32_768;
/// A file counts like text of its size, but at most 100 pages of 3,000 tokens.
pub const MAX_FILE: i64 = 300_000;
/// Bytes of base64 a token: no codec takes fewer for what a model makes of a second, 32 tokens of sound or 300 of video.
const BYTES_PER_TOKEN: i64 = 32;
/// Sound that is not compressed: at least 8,000 bytes a second.
const WAVE_BYTES_PER_TOKEN: i64 = 256;

/// The input of a call, counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Input {
    /// Bytes of the body that count as text.
    pub text_bytes: usize,
    /// Tokens that the caller made itself.
    pub tokens: i64,
    /// Images in `detail: low`, and all others.
    pub low_images: i64,
    pub images: i64,
    /// Tokens of sound, video and files.
    pub other: i64,
}

impl Input {
    /// Input tokens by a model with this rule for images.
    pub fn tokens(self, rule: ImageRule) -> i64 {
        estimate_tokens(self.text_bytes)
            .saturating_add(self.tokens)
            .saturating_add(self.low_images.saturating_mul(rule.low))
            .saturating_add(self.images.saturating_mul(rule.high))
            .saturating_add(self.other)
    }

    /// Something in it counts by other than its bytes or its tokens.
    pub fn has_images(self) -> bool {
        self.low_images + self.images > 0
    }
}

/// The kinds of media that a chat message can carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Media {
    Image,
    Sound,
    Video,
    File,
}

/// One piece of media, as far as it was read.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Piece {
    /// Bytes of base64; 0: it is named by address or id.
    pub payload: usize,
    pub is_low: bool,
    pub is_wave: bool,
}

impl Media {
    pub fn of(key: &str) -> Option<Self> {
        match key {
            "image_url" => Some(Self::Image),
            "input_audio" | "audio_url" => Some(Self::Sound),
            "video_url" => Some(Self::Video),
            "file" => Some(Self::File),
            _ => None,
        }
    }

    pub fn add(self, piece: Piece, input: &mut Input) {
        let bytes = piece.payload as i64;
        let tokens = match self {
            Self::Image if piece.is_low => {
                input.low_images += 1;
                return;
            }
            Self::Image => {
                input.images += 1;
                return;
            }
            _ if bytes == 0 => REMOTE_MEDIA,
            Self::Sound if piece.is_wave => bytes / WAVE_BYTES_PER_TOKEN + 1,
            Self::Sound | Self::Video => bytes / BYTES_PER_TOKEN + 1,
            Self::File => estimate_tokens(piece.payload).min(MAX_FILE),
        };
        input.other = input.other.saturating_add(tokens);
    }
}

/// The most tokens that a model makes of one image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageRule {
    /// In `detail: low`.
    pub low: i64,
    pub high: i64,
}

/// By how the model's name begins, the first that fits: the most that its provider's rule gives, whatever the image's size.
const RULES: &[(&str, ImageRule)] = &[
    ("gpt-4o-mini", ImageRule { low: 2_833, high: 48_169 }),
    ("gpt-4.1-mini", ImageRule::flat(2_489)),
    ("gpt-4.1-nano", ImageRule::flat(3_779)),
    ("gpt-5-mini", ImageRule::flat(2_489)),
    ("gpt-5-nano", ImageRule::flat(3_779)),
    ("o4-mini", ImageRule::flat(2_642)),
    ("gpt-5.", ImageRule::flat(10_000)),
    ("gpt-5", ImageRule { low: 70, high: 1_190 }),
    ("gpt-4", ImageRule { low: 85, high: 1_445 }),
    ("chatgpt-4o", ImageRule { low: 85, high: 1_445 }),
    ("o1", ImageRule { low: 75, high: 1_275 }),
    ("o3", ImageRule { low: 75, high: 1_275 }),
    ("qwen", ImageRule::flat(16_384)),
];

impl ImageRule {
    /// For models without a rule of their own: the most that Claude and Gemini make of an image.
    pub const OTHERS: Self = Self::flat(4_784);

    const fn flat(tokens: i64) -> Self {
        Self { low: tokens, high: tokens }
    }

    /// By the model's name, with or without its maker before it.
    pub fn of(model: &str) -> Self {
        let name = model.rsplit('/').next().unwrap_or(model).to_ascii_lowercase();
        RULES.iter().find(|(start, _)| name.starts_with(start)).map_or(Self::OTHERS, |(_, rule)| *rule)
    }

    /// Whichever of the two serves it.
    pub fn or(self, other: Self) -> Self {
        Self { low: self.low.max(other.low), high: self.high.max(other.high) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_models_rule_is_found_by_its_name() {
        assert_eq!(ImageRule::of("gpt-4o-2024-11-20"), ImageRule { low: 85, high: 1_445 });
        assert_eq!(ImageRule::of("openai/GPT-4o-mini").high, 48_169);
        assert_eq!(ImageRule::of("Qwen/Qwen2.5-VL-7B-Instruct").low, 16_384);
        assert_eq!(ImageRule::of("pixtral"), ImageRule::OTHERS);
        assert_eq!(ImageRule::of("o1").or(ImageRule::of("gpt-4o")), ImageRule { low: 85, high: 1_445 });
    }

    #[test]
    fn sums_do_not_wrap() {
        let most = Input { text_bytes: usize::MAX / 8, tokens: i64::MAX, images: i64::MAX, ..Input::default() };
        assert_eq!(most.tokens(ImageRule::OTHERS), i64::MAX);
    }
}
