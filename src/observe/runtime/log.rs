//! The last lines of a container's log, in the format of the runtime (`time stream F text`).

use std::path::Path;

use crate::model::klog;
use crate::observe::file;

/// How much of the end of a log is read: a Go panic with its stacks fits, and a usage text with the mistake before it.
const TAIL: u64 = 64 << 10;
/// How many lines are kept.
const LINES: usize = 5;
/// And how many bytes of them.
const BYTES: usize = 1 << 10;

/// The last words of a log, if it can be read and says anything.
pub(super) fn log_tail(path: &Path) -> Option<String> {
    let tail = file::tail(path, TAIL).ok()?;
    words(&String::from_utf8_lossy(&tail))
}

/// Of the last non-empty lines those that name an error, else those that look like one, else the last ones that are no
/// usage text. A usage text speaks of errors as well, and comes after the line that says what is wrong.
fn words(tail: &str) -> Option<String> {
    let lines = joined(tail);
    let named: Vec<&String> = lines.iter().filter(|line| names_an_error(line)).collect();
    let spoken = without_usage(&lines);
    let likely: Vec<&String> = spoken.iter().copied().filter(|line| looks_like_an_error(line)).collect();
    let chosen = [named, likely, spoken].into_iter().find(|lines| !lines.is_empty());
    let chosen = chosen.unwrap_or_else(|| lines.iter().collect());
    let mut kept: Vec<String> = Vec::new();
    let mut room = BYTES;
    for line in chosen.into_iter().rev().take(LINES) {
        let line = shortened(line, room);
        room = room.saturating_sub(line.len() + 1);
        kept.push(line);
        if room == 0 {
            break;
        }
    }
    kept.reverse();
    kept.retain(|line| !line.is_empty());
    (!kept.is_empty()).then(|| kept.join("\n"))
}

/// The lines' texts; those the runtime cut in parts (`P`) put together again.
fn joined(tail: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut open = false;
    for line in tail.lines() {
        let mut parts = line.splitn(4, ' ');
        let (text, partial) = match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(_), Some("stdout" | "stderr"), Some(tag), text) => (text.unwrap_or(""), tag.starts_with('P')),
            // Cut at the beginning of the tail, or another format.
            _ => (line, false),
        };
        match lines.last_mut().filter(|_| open) {
            Some(last) => last.push_str(text),
            None => lines.push(text.to_owned()),
        }
        open = partial;
    }
    lines.retain(|line| !line.trim().is_empty());
    lines
}

/// The lines without a usage text: from its heading to the next line that a logger wrote.
fn without_usage(lines: &[String]) -> Vec<&String> {
    let mut usage = false;
    let is_spoken = |line: &&String| {
        usage = match line.trim_start() {
            text if text.to_ascii_lowercase().starts_with("usage") => true,
            text if text.starts_with('{') || klog::severity(text).is_some() => false,
            _ => usage,
        };
        !usage
    };
    lines.iter().filter(is_spoken).collect()
}

/// klog's E and F lines, zap's levels, a panic, and what the flag libraries of Go say of a mistake.
fn names_an_error(line: &str) -> bool {
    const LEVELS: [&str; 3] = ["\"level\":\"fatal\"", "\"level\":\"error\"", "\"level\":\"panic\""];
    const FLAGS: [&str; 4] =
        ["flag provided but not defined", "unknown flag", "unknown shorthand flag", "invalid value \""];
    let text = line.trim_start();
    matches!(klog::severity(text), Some('E' | 'F'))
        || LEVELS.iter().any(|level| text.contains(level))
        || FLAGS.iter().any(|flag| text.contains(flag))
        || text.starts_with("panic:")
        || text.get(..6).is_some_and(|word| word.eq_ignore_ascii_case("error:"))
}

/// What other programs say in plain words.
fn looks_like_an_error(line: &str) -> bool {
    const WORDS: [&str; 4] = ["fatal", "error:", "err=", "failed"];
    let lower = line.to_ascii_lowercase();
    WORDS.iter().any(|word| lower.contains(word))
}

/// At most `room` bytes of a line, cut between characters.
fn shortened(line: &str, room: usize) -> String {
    if line.len() <= room {
        return line.to_owned();
    }
    let Some(room) = room.checked_sub('…'.len_utf8()) else {
        return String::new();
    };
    let end = (0..=room).rev().find(|at| line.is_char_boundary(*at)).unwrap_or(0);
    format!("{}…", &line[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_flag_is_what_is_told_and_not_the_usage_before_it() {
        let log = "2026-11-22T19:33:50.2Z stdout F Usage:\n2026-11-22T19:33:50.2Z stdout F   --a   b\n\
                   2026-11-22T19:33:50.2Z stderr F Error: unknown flag: --no-such-flag\n2026-11-22T19:33:50.2Z stderr F \n";
        assert_eq!(words(log).as_deref(), Some("Error: unknown flag: --no-such-flag"));
    }

    #[test]
    fn the_mistake_before_a_usage_text_is_what_is_quoted() {
        // As etcd 3.4, 3.5 and 3.6 write it; later ones print every flag, some of them about errors.
        let log = "t stderr F flag provided but not defined: -no-such-flag\nt stderr F Usage:\nt stderr F \n\
                   t stderr F   etcd [flags]\nt stderr F     Start an etcd server.\n\
                   t stderr F   --log-level 'info'\nt stderr F     debug, info, warn, error, panic, or fatal. failed\n";
        assert_eq!(words(log).as_deref(), Some("flag provided but not defined: -no-such-flag"));
        let log = "t stderr F no such thing\nt stderr F Usage of thing:\nt stderr F   -failed  error: is fatal\n";
        assert_eq!(words(log).as_deref(), Some("no such thing"));
        let log = "t stderr F Usage of thing:\nt stderr F   -a\n";
        assert_eq!(words(log).as_deref(), Some("Usage of thing:\n  -a"), "better than nothing");
    }

    #[test]
    fn json_and_klog_are_kept_as_they_are() {
        let json = r#"{"level":"fatal","msg":"listen tcp 127.0.0.1:2379: bind: address already in use"}"#;
        assert_eq!(words(&format!("t stderr F {{\"level\":\"info\"}}\nt stderr F {json}\n")).as_deref(), Some(json));
        let klog = "F1122 19:33:50.1 1 run.go:72] \"command failed\" err=\"open /x: no such file\"";
        assert_eq!(
            words(&format!("t stderr F I1122 19:33:50.0 1 a.go:1] hello\nt stderr F {klog}\n")).as_deref(),
            Some(klog)
        );
    }

    #[test]
    fn without_an_error_the_last_lines_speak() {
        let log: String = (0..9).map(|n| format!("t stdout F line {n}\n")).collect();
        assert_eq!(words(&log).as_deref(), Some("line 4\nline 5\nline 6\nline 7\nline 8"));
        assert_eq!(words("t stdout F \n\n"), None);
    }

    #[test]
    fn parts_are_one_line_and_a_long_one_is_cut_between_characters() {
        assert_eq!(words("t stderr P err\nt stderr F or: x\n").as_deref(), Some("error: x"));
        let long = words(&format!("t stderr F {}\n", "ä".repeat(4000))).unwrap();
        assert!(long.len() <= BYTES && long.ends_with('…'), "{}", long.len());
    }
}
