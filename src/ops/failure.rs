//! Exit codes, and failures that carry one.

use std::fmt;
use std::path::Path;

use crate::config::Mistakes;
use crate::control::client::Unreachable;
use crate::model::plan::Refusal;
use crate::snapshots::directory::LockError;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Ok,
    /// It was tried, and failed.
    Failed,
    /// The arguments cannot be understood.
    Usage,
    /// The agent does not do that now, and says why.
    Refused,
    /// The agent or its state cannot be reached: it is silent, or this is not root.
    Unreachable,
    /// Of `status`: something is not healthy. Of `doctor`: a recovery would not succeed, or that is unknown. Of `check`: the
    /// pod of a manifest is not expected to start, or that is unknown. Of `certs check`: a certificate has ended, or soon
    /// will. Of `etcd status`: the member of this node is unhealthy. Of `etcd compact`, `defrag` and `disarm`: it does not
    /// answer. Of `etcd sizing`: something is not fit for it, or that is unknown. Of `etcd snapshot`: a page or a checksum is
    /// not as it must be.
    Unwell,
}

impl Exit {
    /// All of them, in order.
    pub const ALL: [Self; 6] = [Self::Ok, Self::Failed, Self::Usage, Self::Refused, Self::Unreachable, Self::Unwell];

    pub fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Refused => 3,
            Self::Unreachable => 4,
            Self::Unwell => 5,
        }
    }

    /// What it means, for --help and the README.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Ok => "done",
            Self::Failed => "failed, or the configuration has a mistake",
            Self::Usage => "the arguments are invalid",
            Self::Refused => "refused: the reason is printed",
            Self::Unreachable => "the agent cannot be reached, or this is not root",
            Self::Unwell => "status, doctor, check, certs check, etcd: unhealthy, or unknown",
        }
    }
}

/// The exit codes, for --help.
pub(crate) fn help() -> String {
    let lines: Vec<String> = Exit::ALL.iter().map(|exit| format!("  {}  {}", exit.code(), exit.meaning())).collect();
    format!("Exit codes:\n{}", lines.join("\n"))
}

/// Why a command did not do what was asked: a sentence, and how it ends.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    pub sentence: String,
}

impl Failure {
    /// The same, of a file that is here only for the moment: by what it is called where it is from.
    #[must_use]
    pub fn called(self, file: &Path, from: &str) -> Self {
        Self { sentence: self.sentence.replace(&*file.to_string_lossy(), from), ..self }
    }

    /// What was looked at is damaged or unhealthy.
    pub fn unwell(sentence: String) -> Self {
        Self { exit: Exit::Unwell, sentence }
    }

    /// It was tried, and failed.
    pub fn failed(sentence: String) -> Self {
        Self { exit: Exit::Failed, sentence }
    }

    /// It is not done, and the sentence says why.
    pub fn refused(sentence: String) -> Self {
        Self { exit: Exit::Refused, sentence }
    }

    /// The agent or its state cannot be reached.
    pub fn unreachable(sentence: String) -> Self {
        Self { exit: Exit::Unreachable, sentence }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self { exit: Exit::Refused, sentence: format!("refused: {refusal}") }
    }
}

impl From<Mistakes> for Failure {
    fn from(mistakes: Mistakes) -> Self {
        let exit = if mistakes.are_denied() { Exit::Unreachable } else { Exit::Failed };
        Self { exit, sentence: mistakes.to_string() }
    }
}

impl From<Unreachable> for Failure {
    fn from(error: Unreachable) -> Self {
        Self::unreachable(error.to_string())
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::failed(format!("{error:#}"))
    }
}

/// By its kind: what is not permitted is not reachable.
impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::PermissionDenied => Self::unreachable(format!("{error}: use sudo")),
            _ => Self::failed(error.to_string()),
        }
    }
}

impl From<LockError> for Failure {
    fn from(error: LockError) -> Self {
        match error {
            LockError::Busy(_) => Self::refused(format!("{error}; try again")),
            LockError::Io(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Mistake;

    #[test]
    fn what_this_process_may_not_read_is_no_mistake_of_the_configuration() {
        let mistake = |denied| Mistake {
            file: "/etc/lastgood/config.toml".into(),
            line: None,
            key: None,
            also: None,
            what: "cannot be read".to_owned(),
            denied,
        };
        for (denied, exit) in [(false, Exit::Failed), (true, Exit::Unreachable)] {
            let failure = Failure::from(Mistakes(vec![mistake(false), mistake(denied)]));
            assert_eq!(failure.exit, exit, "{failure}");
        }
    }

    #[test]
    fn the_readme_has_the_exit_codes() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
        let Ok(readme) = std::fs::read_to_string(path) else { return };
        for exit in Exit::ALL {
            let row = format!("| {} | {} |", exit.code(), exit.meaning());
            assert!(readme.contains(&row), "README.md lacks the row {row:?}");
        }
    }
}
