//! What one run came to, as it is kept: one JSON object a line.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::calm::Calm;
use super::told::{Event, Explained};

/// Who is there to do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Doer {
    /// The agent, and the kubelet.
    Lastgood,
    /// The kubelet alone.
    Kubelet,
    /// A person who puts the manifest from before back at the first crash, and the kubelet.
    Person,
}

impl fmt::Display for Doer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lastgood => "lastgood",
            Self::Kubelet => "kubelet",
            Self::Person => "person",
        })
    }
}

impl FromStr for Doer {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "lastgood" => Ok(Self::Lastgood),
            "kubelet" => Ok(Self::Kubelet),
            "person" => Ok(Self::Person),
            _ => bail!("{name} is none of lastgood, kubelet and person"),
        }
    }
}

/// What became of whom the fault hurt.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Serving {
    /// Served again, so many seconds after the fault.
    After(f64),
    /// Not served again within so many seconds.
    NotWithin(f64),
    /// Served all the time, for as many seconds as it was asked.
    Throughout(f64),
}

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Run {
    /// The fault's name.
    pub fault: String,
    /// With whom.
    pub doer: Doer,
    /// Of the session it belongs to.
    pub session: Timestamp,
    /// Of the fault.
    pub at: Timestamp,
    /// So many nodes ran beside each other.
    pub at_once: usize,
    /// What became of whom it hurt.
    pub serving: Serving,
    /// What the agent told after the fault.
    pub events: Vec<Event>,
    /// How it explained what the fault hit, each time that this changed.
    pub explained: Vec<Explained>,
    /// Whether the machine was quiet.
    pub calm: Calm,
    /// What was measured, with versions.
    pub of: String,
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}: {:?} ({})", self.fault, self.doer, self.serving, self.calm)?;
        for event in &self.events {
            write!(f, "\n    {:6.1} s  {event}", event.after)?;
        }
        for explained in &self.explained {
            write!(f, "\n    {:6.1} s  [{explained}]", explained.after)?;
        }
        Ok(())
    }
}

/// Appends a run.
///
/// # Errors
/// When the file cannot be written.
pub(super) fn keep(path: &Path, run: &Run) -> Result<()> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    let file = OpenOptions::new().create(true).append(true).open(path);
    let mut file = file.with_context(|| format!("cannot write {}", path.display()))?;
    writeln!(file, "{}", serde_json::to_string(run)?).with_context(|| format!("cannot write {}", path.display()))
}

/// All runs there are; none where there is no file.
///
/// # Errors
/// When a line is no run: which.
pub(super) fn read(path: &Path) -> Result<Vec<Run>> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        text => text.with_context(|| format!("cannot read {}", path.display()))?,
    };
    let parse = |(number, line)| {
        serde_json::from_str(line)
            .with_context(|| format!("{}:{}: no run; move the file away", path.display(), number + 1))
    };
    text.lines().enumerate().map(parse).collect()
}

/// Of each fault and doer the runs of the latest session that can be trusted; where there is none, its calmest.
pub(super) fn latest(all: &[Run]) -> Vec<Run> {
    let counts = |run: &&Run| {
        let alike = || all.iter().filter(|other| other.fault == run.fault && other.doer == run.doer);
        let newest = alike().map(|other| other.session).max();
        let session = || alike().filter(move |other| Some(other.session) == newest);
        if session().any(|other| !other.calm.disturbed()) {
            return Some(run.session) == newest && !run.calm.disturbed();
        }
        let calmest = session().min_by(|a, b| a.calm.mean_late.total_cmp(&b.calm.mean_late));
        calmest.is_some_and(|calmest| calmest.at == run.at)
    };
    all.iter().filter(counts).cloned().collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn run(fault: &str, doer: Doer, session: i64, serving: Serving) -> Run {
        Run {
            fault: fault.to_owned(),
            doer,
            session: Timestamp::from_second(session).expect("a time"),
            at: Timestamp::from_second(session + 90).expect("a time"),
            at_once: 4,
            serving,
            events: Vec::new(),
            explained: Vec::new(),
            calm: Calm::default(),
            of: "lastgood 0.1.0".to_owned(),
        }
    }

    #[test]
    fn a_later_session_on_a_fault_replaces_the_earlier_one_and_nothing_else() {
        let dir = tempfile::tempdir().expect("a temp directory");
        let path = dir.path().join("target/matrix.jsonl");
        assert_eq!(read(&path).expect("no file is no run"), []);
        let all = [
            run("reads", Doer::Lastgood, 1, Serving::After(30.0)),
            run("reads", Doer::Kubelet, 1, Serving::NotWithin(300.0)),
            run("lease", Doer::Lastgood, 1, Serving::After(70.5)),
            run("reads", Doer::Lastgood, 2, Serving::After(20.0)),
            run("reads", Doer::Lastgood, 2, Serving::Throughout(60.0)),
        ];
        all.iter().for_each(|run| keep(&path, run).expect("kept"));
        let back = read(&path).expect("runs");
        assert_eq!(back, all);
        assert_eq!(latest(&back), all[1..]);
        let mut busy = run("reads", Doer::Lastgood, 3, Serving::After(99.0));
        busy.calm.mean_late = 0.2;
        let mut busier = Run { at: busy.session, ..busy.clone() };
        busier.calm.mean_late = 0.3;
        let calm = run("reads", Doer::Lastgood, 3, Serving::After(21.0));
        assert_eq!(latest(&[busy.clone(), calm.clone(), busier.clone()]), [calm]);
        assert_eq!(latest(&[busier, busy.clone()]), [busy]);
        fs::write(&path, "{}\n").expect("written");
        assert!(format!("{:#}", read(&path).expect_err("no run")).contains("matrix.jsonl:1"));
    }
}
