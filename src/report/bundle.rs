//! The bundle of a snapshot, as `etcd snapshot show` and `unpack` print it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::table::{lines, table};
use crate::snapshots::bundle::{Bundle, Contents, Fault, Keys, target};

/// Where keys can be had that nobody encrypted.
const NO_KEYS: &str = "not in it: snapshots.recipients has no key to encrypt them to";

/// A bundle beside a snapshot.
pub(super) fn text(bundle: &Bundle) -> String {
    let mut rows = table(&["", ""]);
    let mut row = |name: &str, value: String| {
        rows.add_row([name.to_owned(), value]);
    };
    row("made", format!("{} on {} by {}", bundle.made, bundle.node, bundle.by));
    for (id, component) in &bundle.components {
        let minor = component.minor.map_or(String::new(), |(major, minor)| format!(", {major}.{minor}"));
        let images: Vec<&str> = component.images.iter().map(String::as_str).collect();
        let of = format!("generation {}{minor}: {}", component.generation, images.join(", "));
        row(&id.to_string(), format!("{}, {of}", component.manifest.display()));
    }
    for path in &bundle.configuration {
        row("file", path.display().to_string());
    }
    let recipients = bundle.recipients.join(", ");
    row(
        "keys",
        match bundle.keys_part() {
            Some(part) => format!("{}, in {}, encrypted to {recipients}", bundle.keys.len(), part.name),
            None => format!("{}, {NO_KEYS}", bundle.keys.len()),
        },
    );
    for key in &bundle.keys {
        let public =
            key.public.map_or(String::new(), |public| format!(" (its public part: SHA-256 {})", public.short()));
        row("key", format!("{}{public}", key.path.display()));
    }
    row("cluster", format!("{:x}, etcd {}", bundle.cluster, bundle.etcd.as_deref().unwrap_or("unknown")));
    if !bundle.labels.is_empty() {
        row(
            "SELinux",
            format!("labels of {} files; unpacking sets them on a machine with SELinux", bundle.labels.len()),
        );
    }
    for member in &bundle.members {
        row("member", format!("{:x} {} {}", member.id, member.name, member.peer_urls.join(", ")));
    }
    row("highest revision", format!("{}, the highest seen", bundle.highest_revision));
    for part in &bundle.parts {
        row("part", format!("{}, {} bytes", part.name, part.bytes));
    }
    for sentence in &bundle.left_out {
        row("left out", sentence.clone());
    }
    // The first line is the empty header.
    let rows = lines(&rows);
    rows.lines().skip(1).fold("Bundle:\n".to_owned(), |text, line| format!("{text}  {line}\n"))
}

/// What is unpacked, or would be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Unpacked {
    /// The snapshot whose bundle it is.
    pub snapshot: PathBuf,
    /// The node it was taken on.
    pub node: String,
    pub files: Vec<UnpackedFile>,
    /// Why keys are not among them, where they are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_keys: Option<String>,
    /// Where they lay on the node, which cannot do without them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<PathBuf>,
    /// What is not in the bundle: a sentence each.
    pub left_out: Vec<String>,
}

/// One file of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct UnpackedFile {
    /// Where it is put.
    pub to: PathBuf,
    /// Where it lay on the node.
    pub path: PathBuf,
    /// Bytes of it.
    pub bytes: usize,
    /// Whether it is key material.
    pub key: bool,
}

impl Unpacked {
    /// Of a bundle that was opened, below a directory.
    ///
    /// # Errors
    /// Where a path leads out of it.
    pub fn new(snapshot: &Path, contents: &Contents, dir: &Path) -> Result<Self, Fault> {
        let keys: &[_] = match &contents.keys {
            Keys::Opened(keys) => keys,
            Keys::Absent | Keys::Closed => &[],
        };
        let all = contents.plain.iter().map(|entry| (entry, false)).chain(keys.iter().map(|entry| (entry, true)));
        let files = all.map(|(entry, key)| {
            let to = target(dir, entry)?;
            Ok(UnpackedFile { to, path: entry.path.clone(), bytes: entry.bytes.len(), key })
        });
        let n = contents.bundle.keys.len();
        let no_keys = match &contents.keys {
            Keys::Opened(_) => None,
            Keys::Absent => Some(format!("{n} keys are {NO_KEYS}")),
            Keys::Closed => Some(format!("{n} keys stay encrypted: --identity FILE opens them")),
        };
        let missing = match &contents.keys {
            Keys::Opened(_) => Vec::new(),
            Keys::Absent | Keys::Closed => contents.bundle.keys.iter().map(|key| key.path.clone()).collect(),
        };
        Ok(Self {
            snapshot: snapshot.to_owned(),
            node: contents.bundle.node.clone(),
            files: files.collect::<Result<_, Fault>>()?,
            no_keys,
            missing,
            left_out: contents.bundle.left_out.clone(),
        })
    }

    pub fn text(&self) -> String {
        let mut out = format!("of {}, from {}\n", self.node, self.snapshot.display());
        for file in &self.files {
            let key = if file.key { ", a key" } else { "" };
            let _ = writeln!(out, "  {} ({} bytes{key})", file.to.display(), file.bytes);
        }
        if let Some(sentence) = &self.no_keys {
            let _ = writeln!(out, "{sentence}");
        }
        for path in &self.missing {
            let _ = writeln!(out, "  not written: {}", path.display());
        }
        for sentence in &self.left_out {
            let _ = writeln!(out, "not in it: {sentence}");
        }
        out
    }
}
