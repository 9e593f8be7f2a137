//! Command lines as the Go components read them: one table of known flags per program, errors worded as theirs.
//!
//! A manifest with a flag that does not exist is the most common way to break a control plane, so the stand-ins must
//! refuse exactly what the real programs refuse: unknown names, missing arguments, values of the wrong type. Values are
//! checked here by their type; what they mean is the business of the program that asks for them.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

/// Every flag a program knows, by the type of its value.
#[derive(Debug, Clone, Copy)]
pub struct Table {
    /// The program's name, for usage and errors.
    pub program: &'static str,
    /// `--flag`, `--flag=true|false`; these never take the next word.
    pub bools: &'static [&'static str],
    /// Whole numbers.
    pub ints: &'static [&'static str],
    /// Go durations: `1m0s`, `500ms`.
    pub durations: &'static [&'static str],
    /// IP addresses.
    pub ips: &'static [&'static str],
    /// Lists and maps; a repeated flag appends, separated by a comma.
    pub lists: &'static [&'static str],
    /// Everything else; the last one counts.
    pub texts: &'static [&'static str],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Bool,
    Int,
    Duration,
    Ip,
    List,
    Text,
}

/// The flags that were given, each with a value of its type.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Given {
    values: BTreeMap<String, String>,
}

/// Why a command line is not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// `--help` was asked for: usage, exit 0.
    Help,
    /// `--version` was asked for: the version, exit 0.
    Version,
    /// The command line is wrong: usage, then `Error: …`, exit 1.
    Usage(String),
}

impl Refusal {
    /// Prints what the real program prints and returns the exit code to leave with.
    pub fn print(&self, table: &Table) -> i32 {
        match self {
            Refusal::Help => {
                print!("{}", table.usage());
                0
            }
            Refusal::Version => {
                println!("Kubernetes {}", crate::apiserver::VERSION);
                0
            }
            Refusal::Usage(message) => {
                eprint!("{}", table.usage());
                eprintln!("Error: {message}");
                1
            }
        }
    }
}

impl Table {
    fn kind(&self, name: &str) -> Option<Kind> {
        let groups = [
            (self.bools, Kind::Bool),
            (self.ints, Kind::Int),
            (self.durations, Kind::Duration),
            (self.ips, Kind::Ip),
            (self.lists, Kind::List),
            (self.texts, Kind::Text),
        ];
        groups.into_iter().find(|(names, _)| names.contains(&name)).map(|(_, kind)| kind)
    }

    fn usage(&self) -> String {
        let mut lines: Vec<String> = Vec::new();
        for (names, shown) in [
            (self.bools, ""),
            (self.ints, " int"),
            (self.durations, " duration"),
            (self.ips, " ip"),
            (self.lists, " strings"),
            (self.texts, " string"),
        ] {
            lines.extend(names.iter().map(|name| format!("      --{name}{shown}\n")));
        }
        lines.sort();
        format!("Usage:\n  {} [flags]\n\nFlags:\n{}\n", self.program, lines.concat())
    }

    /// Reads a command line (without the program's own name).
    ///
    /// Both `--a=b` and `--a b` are accepted, `_` counts as `-`, as with the real programs.
    ///
    /// # Errors
    /// The first thing the real program would refuse, in its words.
    pub fn parse(&self, arguments: impl IntoIterator<Item = String>) -> Result<Given, Refusal> {
        let mut given = Given::default();
        let mut stray: Vec<String> = Vec::new();
        let mut rest = arguments.into_iter();
        while let Some(word) = rest.next() {
            if word == "--" {
                stray.extend(rest.by_ref());
                break;
            }
            let (flag, inline) = match word.split_once('=') {
                Some((flag, value)) => (flag.to_owned(), Some(value.to_owned())),
                None => (word.clone(), None),
            };
            let name = if let Some(long) = flag.strip_prefix("--") {
                long.replace('_', "-")
            } else if flag == "-v" || flag == "-h" {
                if flag == "-v" { "v".to_owned() } else { "help".to_owned() }
            } else if let Some(short) = flag.strip_prefix('-').filter(|short| !short.is_empty()) {
                let letter: String = short.chars().take(1).collect();
                return Err(Refusal::Usage(format!("unknown shorthand flag: '{letter}' in -{short}")));
            } else {
                stray.push(word);
                continue;
            };
            match name.as_str() {
                "help" => return Err(Refusal::Help),
                "version" => return Err(Refusal::Version),
                _ => {}
            }
            let Some(kind) = self.kind(&name) else {
                return Err(Refusal::Usage(format!("unknown flag: --{name}")));
            };
            let value = match (kind, inline) {
                (_, Some(value)) => value,
                (Kind::Bool, None) => "true".to_owned(),
                (_, None) => rest.next().ok_or_else(|| Refusal::Usage(format!("flag needs an argument: --{name}")))?,
            };
            if let Err(reason) = check(kind, &value) {
                return Err(Refusal::Usage(format!("invalid argument \"{value}\" for \"--{name}\" flag: {reason}")));
            }
            match given.values.get_mut(&name) {
                Some(before) if kind == Kind::List => {
                    before.push(',');
                    before.push_str(&value);
                }
                _ => {
                    given.values.insert(name, value);
                }
            }
        }
        if stray.is_empty() {
            return Ok(given);
        }
        Err(Refusal::Usage(format!("\"{}\" does not take any arguments, got {stray:?}", self.program)))
    }
}

fn check(kind: Kind, value: &str) -> Result<(), String> {
    let number = |function: &str| format!("strconv.{function}: parsing \"{value}\": invalid syntax");
    match kind {
        Kind::Bool => boolean(value).map(|_| ()).ok_or_else(|| number("ParseBool")),
        Kind::Int => value.parse::<i64>().map(|_| ()).map_err(|_| number("ParseInt")),
        Kind::Duration => go_duration(value).map(|_| ()).ok_or_else(|| format!("time: invalid duration \"{value}\"")),
        Kind::Ip => value.parse::<IpAddr>().map(|_| ()).map_err(|_| format!("failed to parse IP: \"{value}\"")),
        Kind::List | Kind::Text => Ok(()),
    }
}

/// The spellings Go's `strconv.ParseBool` takes.
fn boolean(value: &str) -> Option<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// A Go duration such as `1m30s`, `1.5h` or `0`; `None` where Go would refuse it. Negative ones are refused too: no flag
/// of these programs has a use for them.
#[must_use]
pub fn go_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut seconds = 0.0_f64;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let unit_end =
            rest[digits..].find(|c: char| c.is_ascii_digit() || c == '.').map_or(rest.len(), |at| digits + at);
        seconds += number
            * match &rest[digits..unit_end] {
                "ns" => 1e-9,
                "us" | "µs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return None,
            };
        rest = &rest[unit_end..];
    }
    if text.is_empty() { None } else { Duration::try_from_secs_f64(seconds).ok() }
}

impl Given {
    /// The value of a flag; an empty value counts as not given, as the real programs hold it for files and lists.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// A list flag, split at commas.
    #[must_use]
    pub fn list(&self, name: &str) -> Vec<&str> {
        self.text(name).map(|value| value.split(',').map(str::trim).collect()).unwrap_or_default()
    }

    /// A boolean flag, or what holds when it was not given.
    #[must_use]
    pub fn enabled(&self, name: &str, default: bool) -> bool {
        self.text(name).and_then(boolean).unwrap_or(default)
    }

    /// A number, or what holds when it was not given.
    #[must_use]
    pub fn number(&self, name: &str, default: i64) -> i64 {
        self.text(name).and_then(|value| value.parse().ok()).unwrap_or(default)
    }

    /// A duration, or what holds when it was not given.
    #[must_use]
    pub fn duration(&self, name: &str, default: Duration) -> Duration {
        self.text(name).and_then(go_duration).unwrap_or(default)
    }

    /// An IP address, or what holds when it was not given.
    #[must_use]
    pub fn ip(&self, name: &str, default: IpAddr) -> IpAddr {
        self.text(name).and_then(|value| value.parse().ok()).unwrap_or(default)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: Table = Table {
        program: "kube-thing",
        bools: &["profiling"],
        ints: &["v", "secure-port"],
        durations: &["request-timeout"],
        ips: &["bind-address"],
        lists: &["issuer"],
        texts: &["name"],
    };

    fn parse(words: &[&str]) -> Result<Given, Refusal> {
        TABLE.parse(words.iter().map(|word| (*word).to_owned()))
    }

    fn error(words: &[&str]) -> String {
        match parse(words) {
            Err(Refusal::Usage(message)) => message,
            other => format!("not refused: {other:?}"),
        }
    }

    #[test]
    fn both_spellings_of_a_value_are_the_same() {
        assert_eq!(parse(&["--name=a", "--v=2"]), parse(&["--name", "a", "-v", "2"]));
    }

    #[test]
    fn a_switch_does_not_swallow_the_next_flag() {
        let given = parse(&["--profiling", "--secure_port=6443"]).expect("accepted");
        assert!(given.enabled("profiling", false));
        assert_eq!(given.number("secure-port", 0), 6443);
    }

    #[test]
    fn a_repeated_list_appends_and_anything_else_replaces() {
        let words = ["--issuer=a", "--issuer=b,c", "--v=1", "--v=3", "--name=x", "--name=y"];
        let given = parse(&words).expect("accepted");
        assert_eq!(given.text("name"), Some("y"));
        assert_eq!(given.list("issuer"), ["a", "b", "c"]);
        assert_eq!(given.number("v", 0), 3);
    }

    #[test]
    fn what_the_real_program_refuses_is_refused_in_its_words() {
        for (words, said) in [
            (vec!["--no-such-flag=1"], "unknown flag: --no-such-flag"),
            (vec!["--name"], "flag needs an argument: --name"),
            (
                vec!["--secure-port=https"],
                "invalid argument \"https\" for \"--secure-port\" flag: strconv.ParseInt: parsing \"https\": invalid \
                 syntax",
            ),
            (
                vec!["--bind-address=everywhere"],
                "invalid argument \"everywhere\" for \"--bind-address\" flag: failed to parse IP: \"everywhere\"",
            ),
            (
                vec!["--request-timeout=5"],
                "invalid argument \"5\" for \"--request-timeout\" flag: time: invalid duration \"5\"",
            ),
            (
                vec!["--profiling=yes"],
                "invalid argument \"yes\" for \"--profiling\" flag: strconv.ParseBool: parsing \"yes\": invalid syntax",
            ),
            (vec!["serve"], "\"kube-thing\" does not take any arguments, got [\"serve\"]"),
            (vec!["-x"], "unknown shorthand flag: 'x' in -x"),
        ] {
            assert_eq!(error(&words), said, "{words:?}");
        }
    }

    #[test]
    fn go_durations_add_their_units() {
        assert_eq!(go_duration("1m0.5s"), Some(Duration::from_millis(60_500)));
        assert_eq!(go_duration("1h2m3s4ms"), Some(Duration::from_millis(3_723_004)));
        assert_eq!(go_duration(""), None);
        assert_eq!(go_duration("3"), None);
        assert_eq!(go_duration("-1s"), None);
        assert_eq!(go_duration("1x"), None);
    }
}
