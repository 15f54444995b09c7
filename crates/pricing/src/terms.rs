//! How a call is made, as far as its price depends on it.

/// The ledger's column `processing`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Processing {
    #[default]
    Sync,
    /// The provider's own batch API, cheaper and later. Tollway's bulk jobs are not that by themselves.
    ProviderBatch,
}

impl Processing {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sync => "sync",
            Self::ProviderBatch => "provider_batch",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Terms<'a> {
    pub processing: Processing,
    /// As the provider reports it in its answer (`default`, `flex`, `priority`, …); Anthropic's `speed: fast` is `fast`.
    pub service_tier: Option<&'a str>,
}

impl Terms<'static> {
    pub fn sync() -> Self {
        Self::default()
    }
}

impl Terms<'_> {
    /// The tier, if it is one that has prices of its own. The others are names of the standard price; Anthropic answers
    /// `batch` there too, which `processing` already says.
    pub(crate) fn special_tier(&self) -> Option<&str> {
        self.service_tier.filter(|tier| !matches!(*tier, "" | "default" | "standard" | "auto" | "on_demand" | "batch"))
    }
}
