//! What machines read: one document per command, which names the version of its form and its kind.
//!
//! ```text
//!   {"apiVersion": "lastgood/v1", "kind": "Status", …the fields of the value…}
//!   {"apiVersion": "lastgood/v1", "kind": "HistoryList", "items": [ … ]}
//! ```
//!
//! The scheme is that of Kubernetes, which the readers of these documents know: group and version in one field, the kind in
//! another, a list as `items`. One version covers all kinds, as one program prints them. A new field leaves it as it is; a
//! field or a value that changes its meaning, its name or its type, or goes, raises it. The schemas in packaging/schemas are
//! the record of what has been promised, and the tests of report's `kinds` hold the types to them.

use serde::Serialize;

/// The version of the form of every document.
pub const API_VERSION: &str = "lastgood/v1";

/// A value that is printed for machines.
pub trait Document: Serialize {
    /// What kind of document it is.
    const KIND: &'static str;
}

/// Several values in one document; one of a single value is a list as well, so that its form does not depend on arguments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct List<T> {
    /// The values.
    pub items: Vec<T>,
}

/// A value with the two fields that say how to read it.
#[derive(Serialize)]
pub struct Versioned<'v, T> {
    #[serde(rename = "apiVersion")]
    api_version: &'static str,
    kind: &'static str,
    #[serde(flatten)]
    value: &'v T,
}

impl<'v, T: Document> From<&'v T> for Versioned<'v, T> {
    fn from(value: &'v T) -> Self {
        Self { api_version: API_VERSION, kind: T::KIND, value }
    }
}
