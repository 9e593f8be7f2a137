//! Why an operation in object storage failed: a sentence that stays the same while the reason does, and contains no
//! secret.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::size::roughly;

/// As much of a stranger's words as one line takes.
const LONGEST: usize = 240;

#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// What is configured does not do.
    #[error("{0}")]
    Setup(String),
    /// The store does not let us.
    #[error("{0}; next: check the credentials (snapshots.remote.credentials-file) and their permissions")]
    Denied(String),
    /// It is not there.
    #[error("{0}")]
    Absent(String),
    /// The store cannot be reached, or fails.
    #[error("{0}")]
    Failed(String),
    /// It took too long.
    #[error("{what} was not complete within {} s (snapshots.remote.timeout)", limit.as_secs())]
    TooLong {
        what: String,
        /// The whole time there was.
        limit: Duration,
    },
    /// What is there is not what was sent.
    #[error("{0}")]
    Differs(String),
    /// It would fill the disk.
    #[error("{} needs {} of free space for it and has {}: free space there", dir.display(), roughly(*needed), roughly(*left))]
    NoRoom {
        dir: PathBuf,
        /// Bytes that are wanted.
        needed: u64,
        /// Bytes that are left.
        left: u64,
    },
    /// Our own disk.
    #[error(transparent)]
    Disk(#[from] io::Error),
}

/// What an error of the store's library means. `what` was being done, as a sentence without its end; `clean` takes secrets
/// out of a stranger's words.
pub(super) fn meaning(what: &str, error: &object_store::Error, clean: impl Fn(&str) -> String) -> Trouble {
    use object_store::Error as Of;
    let words = innermost(error);
    let sentence = format!("{what}: {}", clean(&reason(&words)));
    match error {
        // Of a listing the library makes no kind of its own for it.
        _ if ["status code: 401", "status code: 403"].iter().any(|code| words.contains(code)) => {
            Trouble::Denied(sentence)
        }
        Of::PermissionDenied { .. } | Of::Unauthenticated { .. } => Trouble::Denied(sentence),
        Of::NotFound { .. } => Trouble::Absent(sentence),
        _ => Trouble::Failed(sentence),
    }
}

/// The cause at the bottom: those above it say how long was tried, which differs each time.
fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut words = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        words = cause.to_string();
        next = cause.source();
    }
    words
}

/// What a cause says, in one line.
fn reason(words: &str) -> String {
    // S3 and Azure say in XML what is the matter.
    if let Some(code) = between(words, "<Code>", "</Code>") {
        let message = between(words, "<Message>", "</Message>").map(first_line);
        return message.map_or(code.to_owned(), |message| format!("{code}: {message}"));
    }
    first_line(words.split(": <").next().unwrap_or(words)).trim_end_matches([':', ' ']).to_owned()
}

fn between<'t>(text: &'t str, from: &str, to: &str) -> Option<&'t str> {
    Some(text.split_once(from)?.1.split_once(to)?.0)
}

fn first_line(text: &str) -> &str {
    let line = text.trim().lines().next().unwrap_or_default();
    line.char_indices().nth(LONGEST).and_then(|(end, _)| line.get(..end)).unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> object_store::Error {
        object_store::Error::Generic { store: "S3", source: text.to_owned().into() }
    }

    #[test]
    fn the_reason_is_told_and_no_secret() {
        let clean = |text: &str| text.replace("hunter2", "***");
        let xml = "Server returned non-2xx status code: 503 Slow: <?xml?><Error><Code>SlowDown</Code><Message>Please \
                   reduce hunter2\nnow</Message><RequestId>17</RequestId></Error>";
        let told = meaning("s3://b: listing", &of(xml), clean).to_string();
        assert_eq!(told, "s3://b: listing: SlowDown: Please reduce ***");
        let refused =
            of("Server returned non-2xx status code: 403 Forbidden: <Error><Code>AccessDenied</Code></Error>");
        assert!(matches!(meaning("s3://b", &refused, clean), Trouble::Denied(why) if why == "s3://b: AccessDenied"));
        let html = "Server returned non-2xx status code: 502 Bad Gateway: <html>\n<p>17</p></html>";
        let told = meaning("s3://b: listing", &of(html), clean).to_string();
        assert_eq!(told, "s3://b: listing: Server returned non-2xx status code: 502 Bad Gateway");
        let long = "ä".repeat(1000);
        assert_eq!(meaning("", &of(&long), clean).to_string().chars().count(), LONGEST + 2);
    }
}
