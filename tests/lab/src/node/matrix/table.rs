//! The table of tests/results/faults.md, and its place there.

use std::fmt::Write as _;

use anyhow::{Context, Result};

use super::calm::{LATE, LATE_MEAN};
use super::faults::{FAULTS, Fault};
use super::raw::{Doer, Run, Serving};
use super::run::LIMIT;
use super::told::Told;

const BEGIN: &str = "<!-- matrix -->";
const END: &str = "<!-- /matrix -->";
const COLUMNS: usize = 8;

/// The table with what it was measured on. Of what these runs did not measure, the rows of the table before stay, with the
/// words on how they were measured.
pub(super) fn table(runs: &[Run], before: &str) -> String {
    let stays = FAULTS.iter().any(|fault| kept(fault, runs, before).is_some());
    let mut out = String::from(
        "| Fault | Verdict | Cause named | Action | Detected after | Serving after | Kubelet alone | Person at the first crash |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for fault in &FAULTS {
        let of = |doer| runs.iter().filter(|run| run.fault == fault.name && run.doer == doer).collect::<Vec<_>>();
        let (with, without, person) = (of(Doer::Lastgood), of(Doer::Kubelet), of(Doer::Person));
        if !with.is_empty() || !without.is_empty() || !person.is_empty() {
            out += &row(fault, &with, &without, &person);
        } else if let Some(row) = kept(fault, runs, before) {
            // Rows of earlier tables have no person.
            let person = if row.matches(" | ").count() < COLUMNS - 1 { " - |" } else { "" };
            out = out + row + person + "\n";
        }
    }
    out += &caption(runs);
    if stays {
        let measured = FAULTS.iter().filter(|fault| runs.iter().any(|run| run.fault == fault.name));
        let measured: Vec<&str> = measured.map(|fault| fault.title).collect();
        let _ = writeln!(out, "\nThat is of: {}. Of the other rows:", measured.join("; "));
        for line in before.lines().filter(|line| line.starts_with("Measured by") || line.starts_with("That is of")) {
            let _ = writeln!(out, "\n{line}");
        }
    }
    out
}

/// The row that the table before has of a fault, where these runs did not measure it.
fn kept<'t>(fault: &Fault, runs: &[Run], before: &'t str) -> Option<&'t str> {
    let start = format!("| {} |", fault.title);
    let measured = runs.iter().any(|run| run.fault == fault.name);
    before.lines().find(|line| !measured && line.starts_with(&start))
}

fn row(fault: &Fault, with: &[&Run], without: &[&Run], person: &[&Run]) -> String {
    let told: Vec<Told> = with.iter().map(|run| Told::new(fault.subject, &run.events, &run.explained)).collect();
    let word = |of: fn(&Told) -> &str| {
        let mut words: Vec<String> = told.iter().map(|told| cell(of(told))).collect();
        words.sort();
        words.dedup();
        if words.is_empty() { "not measured".to_owned() } else { words.join(" / ") }
    };
    format!(
        "| {} | {} | {} | {} | {} | {} | {} | {} |\n",
        fault.title,
        word(|told| &told.verdict),
        word(|told| &told.cause),
        word(|told| &told.action),
        detected(&told),
        serving(with),
        serving(without),
        if person.is_empty() { "-".to_owned() } else { serving(person) },
    )
}

/// When it was first told of, and when its cause was, where that came later.
fn detected(told: &[Told]) -> String {
    let first: Vec<f64> = told.iter().filter_map(|told| told.detected).collect();
    let cause: Vec<f64> = told.iter().filter_map(|told| told.explained).collect();
    if told.is_empty() {
        return "not measured".to_owned();
    }
    if first.len() < told.len() {
        return "not in each round".to_owned();
    }
    let later = told.iter().any(|told| told.explained > told.detected.map(|detected| detected + 1.0));
    if later { format!("{}; its cause {}", seconds(first), seconds(cause)) } else { seconds(first) }
}

/// How many letters of a sentence a cell has room for.
const ROOM: usize = 220;

/// Text that stays in its cell: one line, no more than fits, and of an identifier as much as tools show.
fn cell(text: &str) -> String {
    let hex = |word: &str| word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let short = |word| if hex(word) { &word[..12] } else { word };
    let mut words: Vec<&str> = text.split_whitespace().map(short).collect();
    let mut length: usize = words.iter().map(|word| word.chars().count() + 1).sum();
    if length > ROOM {
        while length > ROOM && words.len() > 1 {
            length -= words.pop().map_or(0, |word| word.chars().count() + 1);
        }
        words.push("…");
    }
    words.join(" ").replace('|', "\\|")
}

fn serving(runs: &[&Run]) -> String {
    let after = runs.iter().filter_map(|run| match run.serving {
        Serving::After(after) => Some(after),
        Serving::NotWithin(_) | Serving::Throughout(_) => None,
    });
    let after: Vec<f64> = after.collect();
    let count = |of: fn(&Serving) -> bool| runs.iter().filter(|run| of(&run.serving)).count();
    let never = count(|serving| matches!(serving, Serving::NotWithin(_)));
    let throughout = count(|serving| matches!(serving, Serving::Throughout(_)));
    let mut words = Vec::new();
    if !after.is_empty() {
        words.push(seconds(after));
    }
    if never > 0 {
        words.push(format!("not within {} min", LIMIT.as_secs() / 60));
    }
    if throughout > 0 {
        words.push("served throughout".to_owned());
    }
    if words.is_empty() { "not measured".to_owned() } else { words.join(" / ") }
}

/// Median and worst, or the only figure.
fn seconds(mut figures: Vec<f64>) -> String {
    figures.sort_by(f64::total_cmp);
    match figures.as_slice() {
        [] => "-".to_owned(),
        [one] => format!("{one:.1} s"),
        all => {
            let median = f64::midpoint(all[(all.len() - 1) / 2], all[all.len() / 2]);
            format!("{median:.1} s ({:.1} s)", all[all.len() - 1])
        }
    }
}

fn caption(runs: &[Run]) -> String {
    let mut days: Vec<String> = runs.iter().map(|run| run.at.strftime("%Y-%m-%d").to_string()).collect();
    days.sort();
    days.dedup();
    let mut of: Vec<&str> = runs.iter().map(|run| run.of.as_str()).collect();
    of.sort_unstable();
    of.dedup();
    let rounds = |doer| {
        let mut counts: Vec<usize> = FAULTS
            .iter()
            .map(|fault| runs.iter().filter(|run| run.fault == fault.name && run.doer == doer).count())
            .filter(|count| *count > 0)
            .collect();
        counts.sort_unstable();
        match (counts.first(), counts.last()) {
            (Some(least), Some(most)) if least != most => format!("{least} to {most}"),
            (Some(count), _) => count.to_string(),
            _ => "0".to_owned(),
        }
    };
    let worst = |of: fn(&Run) -> f64| runs.iter().map(of).fold(0.0, f64::max);
    let at_once = runs.iter().map(|run| run.at_once).max().unwrap_or_default();
    let mut out = String::new();
    let _ = write!(
        out,
        "\nMeasured by `tests/matrix` on {}: {}. Rounds of each: {} with lastgood, {} with the kubelet alone (where there \
         are several: the median, and the worst in brackets); up to {at_once} nodes at a time. The machine was shared: \
         something waited for a processor {:.0} to {:.0} % of a run's time. The measuring process itself was woken at most \
         {:.1} ms late on a run's average, and {:.1} s at worst; a run above {} ms or {} s is done again.\n",
        days.join(", "),
        of.join("; "),
        rounds(Doer::Lastgood),
        rounds(Doer::Kubelet),
        runs.iter().map(|run| run.calm.waiting).fold(1.0, f64::min) * 100.0,
        worst(|run| run.calm.waiting) * 100.0,
        worst(|run| run.calm.mean_late) * 1e3,
        worst(|run| run.calm.worst_late),
        LATE_MEAN.as_millis(),
        LATE.as_secs(),
    );
    out
}

/// The text with the table of these runs between its markers.
///
/// # Errors
/// When it has no markers.
pub(super) fn put(text: &str, runs: &[Run]) -> Result<String> {
    let (before, rest) = text.split_once(BEGIN).with_context(|| format!("there is no {BEGIN}"))?;
    let (old, after) = rest.split_once(END).with_context(|| format!("there is no {END} after {BEGIN}"))?;
    let table = table(runs, old);
    Ok(format!("{before}{BEGIN}\n\n{}\n\n{END}{after}", table.trim()))
}

#[cfg(test)]
mod tests {
    use super::super::raw::tests::run;
    use super::*;

    #[test]
    fn a_row_has_the_median_and_the_worst_and_the_kubelets_time_beside_them() {
        let runs = [
            run("reads", Doer::Lastgood, 1, Serving::After(30.0)),
            run("reads", Doer::Lastgood, 1, Serving::After(20.0)),
            run("reads", Doer::Lastgood, 1, Serving::After(41.04)),
            run("reads", Doer::Kubelet, 1, Serving::NotWithin(300.0)),
        ];
        let table = table(&runs, "");
        let rows: Vec<&str> = table.lines().filter(|line| line.starts_with("| kube-apiserver answers")).collect();
        assert_eq!(rows.len(), 1, "{table}");
        assert!(rows[0].ends_with("| 30.0 s (41.0 s) | not within 5 min | - |"), "{}", rows[0]);
        assert!(!table.contains("| etcd hangs"), "what was not measured has no row: {table}");
        assert!(table.contains("3 with lastgood, 1 with the kubelet alone"), "{table}");
    }

    #[test]
    fn rounds_that_came_out_differently_are_all_told() {
        let runs = [
            run("disk", Doer::Kubelet, 1, Serving::Throughout(300.0)),
            run("disk", Doer::Kubelet, 1, Serving::After(4.0)),
            run("disk", Doer::Kubelet, 1, Serving::NotWithin(300.0)),
        ];
        let runs: Vec<&Run> = runs.iter().collect();
        assert_eq!(serving(&runs), "4.0 s / not within 5 min / served throughout");
        assert_eq!(serving(&[]), "not measured");
    }

    #[test]
    fn a_cause_that_was_told_later_than_the_fault_has_its_own_time() {
        let told = |detected, explained| Told { detected, explained, ..Told::default() };
        assert_eq!(detected(&[told(Some(3.0), Some(42.8))]), "3.0 s; its cause 42.8 s");
        assert_eq!(detected(&[told(Some(3.0), Some(3.2))]), "3.0 s");
        assert_eq!(detected(&[told(Some(3.0), Some(3.0)), told(None, None)]), "not in each round");
    }

    #[test]
    fn a_sentence_stays_in_its_cell() {
        let id = "8560a4595b3ab9bb2c48580fdd15d909f7bc4ba04796c714700100fb9c096bc4";
        assert_eq!(cell(&format!("stopped {id}\nof a|b")), "stopped 8560a4595b3a of a\\|b");
        let long = cell(&"word ".repeat(100));
        assert!(long.ends_with("word …") && long.chars().count() <= ROOM + 2, "{long}");
    }

    #[test]
    fn the_table_takes_the_place_between_its_markers_and_nothing_else() {
        let runs = [run("disk", Doer::Kubelet, 1, Serving::After(4.0))];
        let text = "before\n<!-- matrix -->\nold\n<!-- /matrix -->\nafter\n";
        let new = put(text, &runs).expect("markers");
        assert!(
            new.starts_with("before\n<!-- matrix -->\n\n| Fault |") && new.ends_with("\n<!-- /matrix -->\nafter\n")
        );
        assert!(!new.contains("old"), "{new}");
        assert_eq!(put(&new, &runs).expect("markers"), new);
        assert!(put("<!-- matrix -->", &runs).expect_err("no end").to_string().contains("<!-- /matrix -->"));
    }

    #[test]
    fn what_was_not_measured_now_keeps_its_row_and_how_it_was_measured() {
        let earlier =
            [run("disk", Doer::Kubelet, 1, Serving::After(4.0)), run("reads", Doer::Kubelet, 1, Serving::After(9.0))];
        let first = put("<!-- matrix --><!-- /matrix -->", &earlier).expect("markers");
        let again = put(&first, &[run("reads", Doer::Kubelet, 2, Serving::After(5.0))]).expect("markers");
        let rows = |text: &str| text.lines().filter(|line| line.ends_with(" s | - |")).count();
        assert_eq!((rows(&first), rows(&again)), (2, 2), "{again}");
        assert!(again.contains("| 4.0 s |") && again.contains("| 5.0 s |") && !again.contains("| 9.0 s |"), "{again}");
        assert_eq!(again.matches("Measured by").count(), 2, "{again}");
    }
}
