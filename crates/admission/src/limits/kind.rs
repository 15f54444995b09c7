//! What a limit counts.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Slots,
    Rpm,
    Tpm,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Slots => "slots",
            Self::Rpm => "rpm",
            Self::Tpm => "tpm",
        }
    }
    pub(super) fn from_word(word: &str) -> Option<Self> {
        match word {
            "slots" => Some(Self::Slots),
            "rpm" => Some(Self::Rpm),
            "tpm" => Some(Self::Tpm),
            _ => None,
        }
    }
}
