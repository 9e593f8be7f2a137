//! lastgood against etcd's own tools, on the same file in one run: `tests/bench-etcd`.
//!
//! ```text
//!   database.rs   a real etcd 3.5, filled as Kubernetes fills one ──▶ target/bench-etcd/snapshot-MIB.db, kept
//!   measure.rs    one command: wall time and peak memory
//!   main.rs       the rows: theirs, ours, in turns; the medians
//! ```

mod database;
mod measure;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use measure::{Figure, measure};

/// The README's: a large cluster's, and more than a page cache's worth of luck.
const MIB: u64 = 1200;
const ROUNDS: usize = 5;

/// What is compared: how each is asked for it.
struct Row {
    what: &'static str,
    theirs: fn(&Bench) -> Command,
    ours: fn(&Bench) -> Command,
    /// What both must have said alike, of what they printed.
    alike: fn(theirs: &Value, ours: &Value) -> bool,
}

const ROWS: &[Row] = &[Row {
    what: "verify (etcdutl snapshot status)",
    theirs: |bench| bench.command(&bench.etcdutl, &["snapshot", "status", "-w", "json"]),
    ours: |bench| bench.command(&bench.lastgood, &["etcd", "snapshot", "verify", "-o", "json"]),
    alike: |theirs, ours| {
        theirs["hash"] == ours["hash"]
            && theirs["totalKey"] == ours["total_keys"]
            && theirs["revision"] == ours["revision"]
            && !ours["hash"].is_null()
    },
}];

struct Bench {
    snapshot: PathBuf,
    etcdutl: PathBuf,
    lastgood: PathBuf,
}

impl Bench {
    fn command(&self, program: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(args).arg(&self.snapshot);
        command
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-etcd: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let number =
        |name: &str, default: u64| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let (mib, rounds) = (number("MIB", MIB), number("ROUNDS", ROUNDS as u64) as usize);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let cache = std::env::var_os("LASTGOOD_LAB_CACHE").map_or(root.join("target/lab/cache"), PathBuf::from);
    let tools = cache.join("etcd/3.5");
    let lastgood = std::env::var_os("LASTGOOD").map_or(PathBuf::from(env!("CARGO_BIN_EXE_lastgood")), PathBuf::from);
    let snapshot = database::snapshot(&root.join("target/bench-etcd"), &tools, mib)?;
    let bench = Bench { snapshot, etcdutl: tools.join("etcdutl"), lastgood };
    let bytes = bench.snapshot.metadata()?.len();
    // Into memory once: what is compared is the work, not which of the two came first.
    std::io::copy(&mut std::fs::File::open(&bench.snapshot)?, &mut std::io::sink())?;

    println!("{} of {} MiB, {rounds} rounds, medians", bench.snapshot.display(), bytes >> 20);
    println!(
        "\n| | etcd 3.5 | | lastgood | | |\n|---|---|---|---|---|---|\n| | time | memory | time | memory | faster |"
    );
    for row in ROWS {
        let (mut theirs, mut ours) = (Vec::new(), Vec::new());
        for _ in 0..rounds.max(1) {
            let (figure, said) = measure((row.theirs)(&bench))?;
            theirs.push(figure);
            let (figure, says) = measure((row.ours)(&bench))?;
            ours.push(figure);
            let parsed = (serde_json::from_slice(&said)?, serde_json::from_slice(&says)?);
            ensure!((row.alike)(&parsed.0, &parsed.1), "{}: {} and {}", row.what, parsed.0, parsed.1);
        }
        let (theirs, ours) = (median(theirs).context("no round")?, median(ours).context("no round")?);
        println!(
            "| {} | {} | {} | {} | {} | {:.1} |",
            row.what,
            theirs.time(),
            theirs.memory(),
            ours.time(),
            ours.memory(),
            theirs.wall.as_secs_f64() / ours.wall.as_secs_f64()
        );
    }
    println!(
        "\nMemory is the peak of what is resident; in brackets what of it is the process's own, without mapped files."
    );
    Ok(())
}

/// The round of the middle time, with the most memory that any of them took.
fn median(mut figures: Vec<Figure>) -> Option<Figure> {
    figures.sort_by_key(|figure| figure.wall);
    let most = |of: fn(&Figure) -> u64| figures.iter().map(of).max().unwrap_or_default();
    let (resident, own) = (most(|figure| figure.resident), most(|figure| figure.own));
    figures.get(figures.len() / 2).map(|middle| Figure { wall: middle.wall, resident, own })
}
