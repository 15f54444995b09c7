//! The axes of a report.

use std::{fmt, str::FromStr};

use serde::{Serialize, Serializer};

use crate::{ReportError, Result, nearest};

macro_rules! dimensions {
    ($($(#[$meta:meta])* $name:ident = $word:literal from $column:literal),+ $(,)?) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Dimension { $($(#[$meta])* $name),+ }

        impl Dimension {
            pub const ALL: &'static [Self] = &[$(Self::$name),+];
            /// The word in commands and in the report's columns.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word),+ }
            }
            /// The lake's column behind it.
            pub fn column(self) -> &'static str {
                match self { $(Self::$name => $column),+ }
            }
        }
    };
}

dimensions! {
    /// UTC.
    Day = "day" from "completed_at",
    Month = "month" from "completed_at",
    Team = "team" from "team",
    Environment = "environment" from "environment",
    Feature = "feature" from "feature",
    Customer = "customer" from "customer",
    CostCenter = "cost_center" from "cost_center",
    /// What the provider charged for.
    Model = "model" from "model_billed",
    /// The route's name as callers write it.
    ModelRequested = "model_requested" from "model_requested",
    Provider = "provider" from "provider",
    Deployment = "deployment" from "deployment",
    Lane = "lane" from "lane",
    Key = "key" from "key_id",
    Status = "status" from "status",
    ErrorClass = "error_class" from "error_class",
}

impl Dimension {
    pub fn is_time(self) -> bool {
        matches!(self, Self::Day | Self::Month)
    }

    /// `team,feature,model`: each at most once.
    pub fn parse_list(list: &str) -> Result<Vec<Self>> {
        let mut found = Vec::new();
        for word in list.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            let dimension: Self = word.parse()?;
            if found.contains(&dimension) {
                return Err(ReportError::RepeatedDimension(dimension.as_str()));
            }
            found.push(dimension);
        }
        Ok(found)
    }
}

impl FromStr for Dimension {
    type Err = ReportError;

    fn from_str(given: &str) -> Result<Self> {
        let words = || Self::ALL.iter().map(|dimension| dimension.as_str());
        Self::ALL.iter().find(|dimension| dimension.as_str() == given).copied().ok_or_else(|| {
            ReportError::UnknownDimension {
                given: given.chars().take(64).collect(),
                nearest: nearest(given, words()),
                known: words().collect::<Vec<_>>().join(", "),
            }
        })
    }
}

impl fmt::Display for Dimension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Dimension {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_its_dimension() {
        for dimension in Dimension::ALL {
            assert_eq!(dimension.as_str().parse::<Dimension>().unwrap(), *dimension);
        }
    }

    #[test]
    fn a_slip_is_answered_with_the_nearest_word() {
        let error = Dimension::parse_list("team,modle").unwrap_err().to_string();
        assert!(
            error.starts_with("\"modle\" is not a dimension, perhaps \"model\"; use one of day, month, team"),
            "{error}"
        );
        let error = Dimension::parse_list("zzz").unwrap_err().to_string();
        assert!(error.starts_with("\"zzz\" is not a dimension; use one of"), "{error}");
        assert!(matches!(Dimension::parse_list("team, team"), Err(ReportError::RepeatedDimension("team"))));
    }
}
