//! One line of a log: what the journal puts before it, then klog's header, its message and its pairs; or klog's JSON.

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::model::klog;

/// A line of the kubelet's unit.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line<'l> {
    /// When it was written, where the log says so.
    pub(super) at: Option<Timestamp>,
    /// The program, where the log names it: `kubelet`, `systemd`.
    pub(super) program: Option<&'l str>,
    pub(super) text: &'l str,
}

impl<'l> Line<'l> {
    /// Reads `SECONDS.MICROS HOST PROGRAM[PID]: TEXT` (`journalctl -o short-unix`), or takes the line as it is.
    pub(super) fn read(line: &'l str) -> Self {
        Self::of_journal(line).unwrap_or(Line { at: None, program: None, text: line })
    }

    fn of_journal(line: &'l str) -> Option<Self> {
        let (time, rest) = line.split_once(' ')?;
        let (seconds, micros) = time.split_once('.')?;
        let (seconds, micros): (i64, i32) = (seconds.parse().ok()?, micros.parse().ok()?);
        let at = Timestamp::new(seconds, micros.checked_mul(1000)?).ok()?;
        let (_host, rest) = rest.split_once(' ')?;
        let (tag, text) = rest.split_once(": ")?;
        Some(Line { at: Some(at), program: Some(tag.split('[').next().unwrap_or(tag)), text })
    }
}

/// An entry of klog.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// I, W, E or F.
    pub(super) severity: char,
    pub(super) message: String,
    /// `key="value"` and `key=value`, in their order.
    pub(super) pairs: Vec<(String, String)>,
}

impl Entry {
    /// Reads `E1122 19:33:50.123456    1234 file.go:1301] "message" key="value"`, or the JSON of `--logging-format=json`.
    pub(super) fn read(text: &str) -> Option<Self> {
        Self::of_text(text).or_else(|| Self::of_json(text))
    }

    fn of_text(text: &str) -> Option<Self> {
        let (severity, rest) = klog::split(text)?;
        let Some((message, mut rest)) = unquoted(rest) else {
            return Some(Self { severity, message: rest.trim().to_owned(), pairs: Vec::new() });
        };
        let mut pairs = Vec::new();
        while let Some((key, after)) = rest.trim_start().split_once('=') {
            let (value, left) = if let Some((value, left)) = unquoted(after) {
                (value, left)
            } else if let Some(block) = after.strip_prefix('<') {
                // A value of several lines, which journald cuts: what of it is in this one.
                (block.trim_end_matches('>').trim().to_owned(), "")
            } else {
                let (word, left) = after.split_once(' ').unwrap_or((after, ""));
                (word.to_owned(), left)
            };
            pairs.push((key.to_owned(), value));
            rest = left;
        }
        Some(Self { severity, message, pairs })
    }

    /// Its JSON has no severity: what has an error is one.
    fn of_json(text: &str) -> Option<Self> {
        let fields: Map<String, Value> = serde_json::from_str(text.strip_prefix('{').map(|_| text)?.trim_end()).ok()?;
        let message = fields.get("msg")?.as_str()?.to_owned();
        let severity = if fields.contains_key("err") { 'E' } else { 'I' };
        let pairs = fields.into_iter().filter_map(|(key, value)| Some((key, value.as_str()?.to_owned()))).collect();
        Some(Self { severity, message, pairs })
    }

    pub(super) fn value(&self, key: &str) -> Option<&str> {
        self.pairs.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }
}

/// A string as Go quotes it, and what comes after it.
pub(super) fn unquoted(text: &str) -> Option<(String, &str)> {
    let inner = text.strip_prefix('"')?;
    let mut out = String::new();
    let mut chars = inner.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((out, &inner[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => out.push('\n'),
                't' => out.push('\t'),
                'r' => out.push('\r'),
                code @ ('x' | 'u' | 'U') => {
                    let digits = match code {
                        'x' => 2,
                        'u' => 4,
                        _ => 8,
                    };
                    let hex: String = (0..digits).map_while(|_| chars.next()).map(|(_, c)| c).collect();
                    out.push(u32::from_str_radix(&hex, 16).ok().and_then(char::from_u32)?);
                }
                other => out.push(other),
            },
            c => out.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_journal_has_a_time_and_a_program() {
        let line = Line::read("1795980000.500000 master-1 kubelet[812]: E1130 19:20:00.500000     812 run.go:72] x");
        assert_eq!(line.program, Some("kubelet"));
        assert_eq!(line.at.map(|at| at.as_microsecond()), Some(1_795_980_000_500_000));
        assert!(line.text.starts_with("E1130"));
        let plain = "Error: failed to parse kubelet flag: unknown flag: --x";
        assert_eq!(Line::read(plain), Line { at: None, program: None, text: plain });
    }

    #[test]
    fn an_entry_of_klog_is_read_with_its_quotes() {
        let entry = Entry::read(
            r#"E1130 19:20:00.5 812 pod_workers.go:1301] "Error syncing pod, skipping" err="failed to \"StartContainer\" for \"etcd\"" pod="kube-system/etcd-vm" podUID="7" n=3"#,
        )
        .unwrap();
        assert_eq!((entry.severity, entry.message.as_str()), ('E', "Error syncing pod, skipping"));
        assert_eq!(entry.value("err"), Some(r#"failed to "StartContainer" for "etcd""#));
        assert_eq!((entry.value("pod"), entry.value("n")), (Some("kube-system/etcd-vm"), Some("3")));
        let plain = Entry::read("F1130 19:20:00.5 812 server.go:262] failed to run Kubelet: x").unwrap();
        assert_eq!((plain.message.as_str(), plain.pairs.len()), ("failed to run Kubelet: x", 0));
        for not in ["", "Error: x", "E", "E11", "E1130 no end", "Exxxx 1 a] b"] {
            assert_eq!(Entry::read(not), None, "{not}");
        }
        assert!(unquoted("\"never ends").is_none());
        assert_eq!(unquoted(r#""a\\n" b"#), Some((r"a\n".to_owned(), " b")));
    }
}
