//! lastgood against etcd's own tools, on the same file in one run: `tests/bench-etcd`.
//!
//! ```text
//!   database.rs   a real etcd 3.5, filled as Kubernetes fills one ──▶ target/bench-etcd/snapshot-MIB.db, kept
//!   rows.rs       what is compared, and what both must have made alike
//!   measure.rs    one command: wall time, processor time and peak memory
//!   main.rs       theirs, ours, in turns; the medians; the table, into tests/results/etcd-tools.md where that is asked for
//! ```

mod database;
mod measure;
mod rows;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};

use measure::{Figure, measure};
use rows::{Bench, ROWS, Row};

/// A large cluster's, and more than a page cache's worth of luck.
const MIB: u64 = 1200;
const ROUNDS: u64 = 5;
/// Where memory is a file system.
const MEMORY: &str = "/dev/shm";
/// Between these lines of the file of results the table stands.
const BEGIN: &str = "<!-- tests/bench-etcd --write -->\n";
const END: &str = "<!-- end -->\n";

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
    let (mib, rounds) = (number("MIB", MIB), number("ROUNDS", ROUNDS).max(1));
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let cache = std::env::var_os("LASTGOOD_LAB_CACHE").map_or(root.join("target/lab/cache"), PathBuf::from);
    let tools = cache.join("etcd/3.5");
    let lastgood = std::env::var_os("LASTGOOD").map_or(PathBuf::from(env!("CARGO_BIN_EXE_lastgood")), PathBuf::from);
    let dir = root.join("target/bench-etcd");
    let snapshot = database::snapshot(&dir, &tools, mib)?;
    let bytes = snapshot.metadata()?.len();
    // Into memory once: what is compared is the work, not which of the two came first.
    std::io::copy(&mut fs::File::open(&snapshot)?, &mut std::io::sink())?;
    let bench = Bench::new(&dir, snapshot, tools, lastgood)?;
    let disk = dir.join("out");
    let memory = Path::new(MEMORY).join(format!("bench-etcd-{}", std::process::id()));

    let began = load()?;
    let mut lines = String::new();
    for row in ROWS {
        let memory = row.of_disk.then_some(("in memory", &memory));
        for (place, out) in [(if row.of_disk { "on disk" } else { "" }, &disk)].into_iter().chain(memory) {
            let compared = compare(&bench, row, out, rounds);
            // Whatever came of it.
            let _ = fs::remove_dir_all(out);
            let (theirs, ours) = compared?;
            let line = format!(
                "| {} | {place} | {} | {} | {} | {} | {} | {} | {:.1} |",
                row.what,
                theirs.time(),
                theirs.work(),
                theirs.memory(),
                ours.time(),
                ours.work(),
                ours.memory(),
                theirs.wall.as_secs_f64() / ours.wall.as_secs_f64()
            );
            eprintln!("{line}");
            writeln!(lines, "{line}")?;
        }
    }
    let table = format!(
        "| | | etcd 3.5: time | processor | memory | lastgood: time | processor | memory | times as fast |\n\
         |---|---|---|---|---|---|---|---|---|\n{lines}\n\
         Measured on {} by `tests/bench-etcd`: {} MiB, {rounds} rounds by turns, medians, {} processors; load {began} at\n\
         the beginning and {} at the end. Memory is the peak of what was resident; in brackets what was seen of it as the\n\
         process's own, without mapped files.\n",
        jiff::Timestamp::now().strftime("%F"),
        bytes >> 20,
        std::thread::available_parallelism()?,
        load()?
    );
    println!("\n{table}");
    if std::env::var_os("RESULTS").is_some() {
        into_file(&root.join("tests/results/etcd-tools.md"), &table)?;
    }
    Ok(())
}

/// Theirs and ours, by turns, onto an emptied file system's cache; the medians.
fn compare(bench: &Bench, row: &Row, out: &Path, rounds: u64) -> Result<(Figure, Figure)> {
    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let mut say = Vec::new();
        for (command, figures) in [(row.theirs, &mut theirs), (row.ours, &mut ours)] {
            let _ = fs::remove_dir_all(out);
            fs::create_dir_all(out)?;
            // What the one before left to be written is not this one's.
            std::process::Command::new("sync").arg("-f").arg(out).status()?;
            let (figure, said) = measure(command(bench, out))?;
            figures.push(figure);
            say.push((row.made)(bench, out, &said)?);
        }
        ensure!(say.first() == say.last() && !say.contains(&serde_json::Value::Null), "{}: {say:?}", row.what);
    }
    Ok((median(theirs).context("no round")?, median(ours).context("no round")?))
}

/// The round of the middle time, with the most memory that any of them took.
fn median(mut figures: Vec<Figure>) -> Option<Figure> {
    figures.sort_by_key(|figure| figure.wall);
    let most = |of: fn(&Figure) -> u64| figures.iter().map(of).max().unwrap_or_default();
    let (resident, own) = (most(|figure| figure.resident), most(|figure| figure.own));
    figures.get(figures.len() / 2).map(|middle| Figure { resident, own, ..*middle })
}

/// How many processes wanted a processor within the last minute.
fn load() -> Result<String> {
    let text = fs::read_to_string("/proc/loadavg")?;
    Ok(text.split(' ').next().unwrap_or_default().to_owned())
}

fn into_file(path: &Path, table: &str) -> Result<()> {
    let text = fs::read_to_string(path)?;
    let (before, rest) = text.split_once(BEGIN).with_context(|| format!("no line {BEGIN}"))?;
    let (_, after) = rest.split_once(END).with_context(|| format!("no line {END}"))?;
    Ok(fs::write(path, format!("{before}{BEGIN}{table}{END}{after}"))?)
}
