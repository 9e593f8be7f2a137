//! The name of a snapshot file: when it was taken, of which cluster, at which revision. Only this module parses names;
//! they are compared by these values, never as text.
//!
//! ```text
//!   20261126T152030Z-cdf818194e3a8c32-r123456.db          as etcd sent it, its digest at the end
//!   20261126T152030Z-cdf818194e3a8c32-r123456.raw.db      a copy of a stopped member's database: no digest, no WAL
//! ```

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::etcd::snapshot::RawCopy;

/// The time in a name: UTC, to the second, without what a file system or a shell could mind.
const TIME: &str = "%Y%m%dT%H%M%SZ";

/// Where the bytes of a snapshot come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// A running member sent them (`Maintenance.Snapshot`).
    Stream,
    /// They were copied from a data directory: what its log holds beyond the database is not in them.
    DataDir,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stream => "stream",
            Self::DataDir => "data directory",
        })
    }
}

/// A name, read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Name {
    /// When it was taken, to the second.
    pub at: Timestamp,
    /// The cluster's ID.
    pub cluster: u64,
    /// The newest MVCC revision in it.
    pub revision: i64,
    /// Where it comes from.
    pub origin: Origin,
}

impl Name {
    /// Whether one of this name is taken where so much is trusted.
    pub fn suffices(&self, trust: RawCopy) -> bool {
        self.origin == Origin::Stream || trust == RawCopy::Allow
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ending = match self.origin {
            Origin::Stream => "db",
            Origin::DataDir => "raw.db",
        };
        write!(f, "{}-{:016x}-r{}.{ending}", self.at.strftime(TIME), self.cluster, self.revision)
    }
}

/// That a file's name is none of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is not the name of a lastgood snapshot")]
pub struct NotAName;

impl FromStr for Name {
    type Err = NotAName;

    fn from_str(text: &str) -> Result<Self, NotAName> {
        let (stem, origin) = match (text.strip_suffix(".raw.db"), text.strip_suffix(".db")) {
            (Some(stem), _) => (stem, Origin::DataDir),
            (None, Some(stem)) => (stem, Origin::Stream),
            (None, None) => return Err(NotAName),
        };
        let mut parts = stem.splitn(3, '-');
        let mut part = || parts.next().ok_or(NotAName);
        let (time, cluster, revision) = (part()?, part()?, part()?);
        let at = DateTime::strptime(TIME, time).map_err(|_| NotAName)?;
        let at = TimeZone::UTC.to_timestamp(at).map_err(|_| NotAName)?;
        let cluster = u64::from_str_radix(cluster, 16).map_err(|_| NotAName)?;
        let revision = revision.strip_prefix('r').and_then(|digits| digits.parse().ok()).ok_or(NotAName)?;
        let name = Self { at, cluster, revision, origin };
        // One spelling alone, so that two files never mean the same snapshot.
        if name.revision >= 0 && name.to_string() == text { Ok(name) } else { Err(NotAName) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_says_what_it_says() {
        let name = Name {
            at: "2026-11-26T15:20:30Z".parse().unwrap(),
            cluster: 0xcdf8_1819_4e3a_8c32,
            revision: 123_456,
            origin: Origin::Stream,
        };
        assert_eq!(name.to_string(), "20261126T152030Z-cdf818194e3a8c32-r123456.db");
        assert_eq!("20261126T152030Z-cdf818194e3a8c32-r123456.db".parse(), Ok(name));
        let raw = Name { origin: Origin::DataDir, ..name };
        assert_eq!("20261126T152030Z-cdf818194e3a8c32-r123456.raw.db".parse(), Ok(raw));
    }

    #[test]
    fn what_is_not_ours_is_not_taken_for_it() {
        for text in [
            "snapshot.db",
            "20261126T152030Z-cdf818194e3a8c32-r123456.db.part",
            "20261126T152030Z-cdf818194e3a8c32-r0123456.db",
            "20261126T152030Z-cdf818194e3a8c32-r-1.db",
            "20261126T152030Z-CDF818194E3A8C32-r1.db",
            "20261326T152030Z-cdf818194e3a8c32-r1.db",
            "20261126T152030Z-1-r1.db",
            "20261126T152030Z-cdf818194e3a8c32-r1.proof.json",
            ".db",
            "",
        ] {
            assert_eq!(text.parse::<Name>(), Err(NotAName), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_name_comes_back(at in 0_i64..4_000_000_000, cluster: u64, revision in 0..=i64::MAX, raw: bool) {
            let origin = if raw { Origin::DataDir } else { Origin::Stream };
            let name = Name { at: Timestamp::from_second(at).unwrap(), cluster, revision, origin };
            prop_assert_eq!(name.to_string().parse(), Ok(name));
        }

        #[test]
        fn no_text_panics(text in ".*") {
            let _ = text.parse::<Name>();
        }
    }
}
