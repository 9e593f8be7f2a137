//! Locations in object storage: `s3://bucket/prefix`, `gs://bucket`, `az://container/prefix`.

use std::fmt;
use std::str::FromStr;

/// Whose storage it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// S3, or what speaks like it.
    S3,
    /// Google Cloud Storage.
    Gcs,
    /// Azure Blob Storage.
    Azure,
}

impl Scheme {
    const ALL: [Self; 3] = [Self::S3, Self::Gcs, Self::Azure];

    /// What stands before `://`.
    pub fn text(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Gcs => "gs",
            Self::Azure => "az",
        }
    }
}

/// A bucket, and a prefix or an object in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectUrl {
    pub scheme: Scheme,
    /// The bucket; of Azure the container.
    pub bucket: String,
    /// What names in it begin with, without slashes at its ends; empty: the bucket itself.
    pub path: String,
}

/// Why a text is no such place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not a place in object storage: write it like \"s3://bucket/prefix\", \"gs://…\" or \"az://…\"")]
pub struct NotAPlace(String);

impl ObjectUrl {
    /// Whether somebody meant a place in object storage rather than a file.
    pub fn is_meant(text: &str) -> bool {
        text.contains("://")
    }

    /// The prefix and the name, where a snapshot is meant: it ends in `.db`.
    pub fn object(&self) -> Option<(Self, String)> {
        let (dir, name) = self.path.rsplit_once('/').unwrap_or(("", &self.path));
        let of = Self { path: dir.to_owned(), ..self.clone() };
        (name.ends_with(".db") && name != ".db").then(|| (of, name.to_owned()))
    }
}

impl fmt::Display for ObjectUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slash = if self.path.is_empty() { "" } else { "/" };
        write!(f, "{}://{}{slash}{}", self.scheme.text(), self.bucket, self.path)
    }
}

impl FromStr for ObjectUrl {
    type Err = NotAPlace;

    fn from_str(text: &str) -> Result<Self, NotAPlace> {
        // What is refused may hold a password: only what stands before it is said again.
        let not = || NotAPlace(format!("{:?}", text.split(['@', '?']).next().unwrap_or_default()));
        let (scheme, rest) = text.split_once("://").ok_or_else(not)?;
        let scheme = Scheme::ALL.into_iter().find(|known| known.text() == scheme).ok_or_else(not)?;
        let (bucket, path) = rest.split_once('/').unwrap_or((rest, ""));
        let of_bucket = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if bucket.is_empty() || !bucket.chars().all(of_bucket) {
            return Err(not());
        }
        let path = path.strip_suffix('/').unwrap_or(path);
        // No character that a URL or one of the stores reads in its own way.
        let of_path = |c: char| c.is_ascii_alphanumeric() || "-_.=+:,".contains(c);
        let of_part = |part: &str| !part.is_empty() && part != "." && part != ".." && part.chars().all(of_path);
        if !path.is_empty() && !path.split('/').all(of_part) {
            return Err(not());
        }
        Ok(Self { scheme, bucket: bucket.to_owned(), path: path.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_people_write_is_read() {
        for (text, bucket, path) in [
            ("s3://backups", "backups", ""),
            ("s3://backups/", "backups", ""),
            ("gs://back.ups/etcd/prod/", "back.ups", "etcd/prod"),
            ("az://c/a/x.db", "c", "a/x.db"),
        ] {
            let place: ObjectUrl = text.parse().unwrap();
            assert_eq!((place.bucket.as_str(), place.path.as_str()), (bucket, path));
            assert_eq!(place.to_string(), text.trim_end_matches('/'));
        }
        let (dir, name) = "s3://b/a/x.db".parse::<ObjectUrl>().unwrap().object().unwrap();
        assert_eq!((dir.to_string().as_str(), name.as_str()), ("s3://b/a", "x.db"));
        assert_eq!("s3://b/a/x".parse::<ObjectUrl>().unwrap().object(), None);
        assert_eq!("s3://b.db".parse::<ObjectUrl>().unwrap().object(), None);
    }

    #[test]
    fn what_is_unclear_is_refused_and_a_password_not_said_again() {
        for text in [
            "",
            "backups",
            "s3:/b",
            "s3://",
            "s3:///a",
            "http://b/a",
            "s3://b//a",
            "s3://b/../a",
            "s3://b/a?x=hunter2",
            "s3://me:hunter2@b/a",
            "s3://b/ä",
        ] {
            let error = text.parse::<ObjectUrl>().unwrap_err().to_string();
            assert!(error.contains("s3://bucket/prefix"), "{text:?}: {error}");
        }
        let error = "s3://b/a?sig=hunter2".parse::<ObjectUrl>().unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".*") {
            let _ = text.parse::<ObjectUrl>();
        }
    }
}
