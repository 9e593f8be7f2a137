//! published.json: which files of inactive-manifests lastgood wrote, and with what content. A file that differs was
//! edited by the operator and is not overwritten.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::envelope;
use super::{Finding, Guard, Store};
use crate::model::{ComponentId, Digest, Format, lift};
use crate::sys::files::{self, Attributes};

/// The format of published.json.
pub(super) const FORMAT: Format = Format { key: "published", versions: &["the files, by name"], lift: lift::nothing };
pub(super) const MAX_BYTES: u64 = 1 << 20;

/// What we wrote, by file name.
pub type Published = BTreeMap<String, PublishedFile>;

/// One file we wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedFile {
    /// For which component.
    pub component: ComponentId,
    /// Of its bytes.
    pub digest: Digest,
}

impl Store {
    pub(super) fn published_path(&self) -> PathBuf {
        self.path().join("published.json")
    }

    /// What we wrote to inactive-manifests, as far as it is known. Where it is lost, the generations' own digests still
    /// tell our files from others.
    pub fn published(&self) -> (Published, Option<Finding>) {
        let path = self.published_path();
        match files::read_bounded(&path, MAX_BYTES) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => (Published::new(), None),
            Err(error) => (Published::new(), Some(Finding { path, sentence: error.to_string() })),
            Ok(bytes) => match envelope::decode_any(&FORMAT, &bytes) {
                Ok(published) => (published, None),
                Err(fault) => (Published::new(), Some(Finding::new(&path, fault))),
            },
        }
    }
}

impl Guard {
    /// Remembers what we wrote to inactive-manifests.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save_published(&self, published: &Published) -> io::Result<()> {
        self.may_write()?;
        let bytes = envelope::wrap(&FORMAT, published)?;
        let tmp = self.make_tmp()?;
        files::write_if_different(&tmp, &self.published_path(), &bytes, &Attributes::private()).map(drop)
    }
}
