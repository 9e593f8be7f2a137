//! A text with its old names replaced by the new ones, and not a byte besides: comments, order, line ends, and what
//! is no key of lastgood, stay as they are.
//!
//! ```text
//!   text ──events──▶ names, each with its place ──replace──▶ text ──a table twice?──▶ the later one joins the earlier
//! ```
//!
//! It goes by the events of the parser below `toml`: only they give the position of each part of each name.

use std::fmt;
use std::ops::Range;

use toml_parser::parser::{Event, EventKind, RecursionGuard, parse_document};
use toml_parser::{Source, Span};

use super::renamed::{RENAMED, new_table};

/// Nested deeper than any configuration, and far from the end of the stack; as deep as `toml` goes.
const DEEPEST: u32 = 80;

/// A text that was rewritten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rewritten {
    pub(super) text: String,
    pub(super) changes: Vec<Change>,
}

/// A name that was replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its line before, counted from 1.
    pub line: usize,
    /// What it names.
    pub kind: Kind,
    /// With its table, as it was.
    pub old: String,
    /// With its table, as it is now.
    pub new: String,
}

/// What a name names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A table, in its header.
    Table,
    /// A key, or a table that is written as one.
    Key,
    /// A key that is commented out as the shipped file has them.
    CommentedOut,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Table => write!(f, "[{}] -> [{}]", self.old, self.new),
            Kind::Key => write!(f, "{} -> {}", self.old, self.new),
            Kind::CommentedOut => write!(f, "{} -> {} (commented out)", self.old, self.new),
        }
    }
}

/// Replaces every old name.
pub(super) fn rewrite(text: &str) -> Rewritten {
    let mut edits = Vec::new();
    let mut changes = Vec::new();
    let (mut line, mut counted) = (1, 0);
    for name in names(text) {
        let (new, places) = replaced(&name);
        if let Some((first, _)) = places.first() {
            line += text.get(counted..first.start).unwrap_or_default().matches('\n').count();
            counted = first.start;
            changes.push(Change { line, kind: name.kind, old: name.path.join("."), new });
        }
        edits.extend(places);
    }
    let moved = changes.iter().any(|change| change.kind == Kind::Table);
    let text = edited(text, edits);
    Rewritten { text: if moved { gathered(text) } else { text }, changes }
}

/// In what is no TOML, one name may be inside another: the first is replaced then.
fn edited(text: &str, mut edits: Vec<(Range<usize>, &'static str)>) -> String {
    edits.sort_by_key(|(place, _)| place.start);
    let mut out = String::new();
    let mut copied = 0;
    for (place, part) in edits {
        if place.start >= copied {
            out.push_str(&text[copied..place.start]);
            out.push_str(part);
            copied = place.end;
        }
    }
    out.push_str(&text[copied..]);
    out
}

/// What a name is called now, and the parts of it to replace where it is written.
fn replaced(name: &Name) -> (String, Vec<(Range<usize>, &'static str)>) {
    let mut path: Vec<&str> = name.path.iter().map(String::as_str).collect();
    let old = RENAMED.iter().find(|(old, _)| name.kind != Kind::Table && path.len() == 2 && *old == path.join("."));
    let table = path.first().and_then(|first| new_table(first));
    let leaf = old.and_then(|(_, new)| new.rsplit('.').next()).filter(|leaf| path.last() != Some(leaf));
    let mut places = Vec::new();
    if let (Some(table), Some(first)) = (table, path.first_mut()) {
        *first = table;
        // Below a header, its table is not written again.
        if name.own.len() == name.path.len() {
            places.extend(name.own.first().map(|place| (place.clone(), table)));
        }
    }
    if let (Some(leaf), Some(last)) = (leaf, path.last_mut()) {
        *last = leaf;
        places.extend(name.own.last().map(|place| (place.clone(), leaf)));
    }
    (path.join("."), places)
}

/// Where a header and what is in its table are in a text.
struct Section {
    table: String,
    /// The header's line, and what is behind it.
    header: Range<usize>,
    closed: usize,
    /// Behind the last key's line.
    end: usize,
}

/// A file may have had a table under its old and its new name. TOML takes a header only once, so the keys of the later one
/// go to the end of the earlier one, with the comments between them.
fn gathered(mut text: String) -> String {
    while let Some(joined) = join_one(&text) {
        text = joined;
    }
    text
}

fn join_one(text: &str) -> Option<String> {
    let sections = sections(text);
    let table_of = |name: &'static str| name.rsplit_once('.').map(|(table, _)| table);
    let is_new =
        |table: &str| RENAMED.iter().any(|(old, new)| table_of(old) != table_of(new) && table_of(new) == Some(table));
    let mut pairs = sections.iter().enumerate().filter(|(_, section)| is_new(&section.table));
    let (into, from) = pairs.find_map(|(at, into)| {
        let from = sections[at + 1..].iter().find(|later| later.table == into.table)?;
        Some((into, from))
    })?;
    let newline = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let mut out = text[..into.end].to_owned();
    let mut line = |text: &str| {
        if !out.is_empty() && !out.ends_with('\n') {
            out.push_str(newline);
        }
        out.push_str(text);
    };
    let comment = text[from.closed..from.header.end].trim();
    line(comment);
    line(&text[from.header.end..from.end]);
    line(&text[into.end..from.header.start]);
    out.push_str(&text[from.end..]);
    Some(out)
}

fn sections(text: &str) -> Vec<Section> {
    let line_end = |at: usize| text[at..].find('\n').map_or(text.len(), |newline| at + newline + 1);
    let mut sections: Vec<Section> = Vec::new();
    for name in names(text) {
        let end = line_end(name.end);
        if name.kind == Kind::Table {
            let begin = name.own.first().map_or(name.end, |place| place.start);
            let start = text[..begin].rfind('\n').map_or(0, |newline| newline + 1);
            sections.push(Section { table: name.path.join("."), header: start..end, closed: name.end, end });
        } else if let Some(section) = sections.last_mut() {
            section.end = section.end.max(end);
        }
    }
    sections
}

/// A name that a text writes.
#[derive(Debug)]
struct Name {
    kind: Kind,
    /// All parts of it, from the top.
    path: Vec<String>,
    /// The places of its last parts: those that are written here.
    own: Vec<Range<usize>>,
    /// Where its header or its value ends.
    end: usize,
}

fn names(text: &str) -> Vec<Name> {
    let source = Source::new(text);
    let tokens = source.lex().into_vec();
    let mut events: Vec<Event> = Vec::new();
    parse_document(&tokens, &mut RecursionGuard::new(&mut events, DEEPEST), &mut ());
    let mut scan = Scan {
        text,
        source,
        names: Vec::new(),
        header: Vec::new(),
        open: Vec::new(),
        value: Vec::new(),
        parts: Vec::new(),
        outer: None,
    };
    for event in &events {
        scan.event(event);
    }
    scan.names.sort_by_key(|name| name.own.first().map(|place| place.start));
    scan.names
}

/// A walk along the events of a document.
struct Scan<'s> {
    text: &'s str,
    source: Source<'s>,
    names: Vec<Name>,
    /// The table of the last header.
    header: Vec<String>,
    /// The path of each inline table and array that is open.
    open: Vec<Vec<String>>,
    /// The path of the value at hand.
    value: Vec<String>,
    /// The parts of the name at hand.
    parts: Vec<(String, Range<usize>)>,
    /// The key whose value is at hand, where that is in no other.
    outer: Option<usize>,
}

impl Scan<'_> {
    fn event(&mut self, event: &Event) {
        let span = event.span();
        match event.kind() {
            EventKind::StdTableOpen | EventKind::ArrayTableOpen => self.parts.clear(),
            EventKind::SimpleKey => self.part(event),
            EventKind::StdTableClose | EventKind::ArrayTableClose => {
                self.header.clear();
                self.header = self.name(Kind::Table, span.end());
                if event.kind() == EventKind::ArrayTableClose {
                    self.in_array();
                }
            }
            EventKind::KeyValSep => {
                self.value = self.name(Kind::Key, span.end());
                if self.open.is_empty() {
                    self.outer = self.names.len().checked_sub(1);
                }
            }
            EventKind::InlineTableOpen => self.open.push(self.value.clone()),
            EventKind::ArrayOpen => {
                // An element of an array has no name.
                self.value.push(String::new());
                self.open.push(self.value.clone());
            }
            EventKind::InlineTableClose | EventKind::ArrayClose => {
                self.value = self.open.pop().unwrap_or_default();
                self.ended(span.end());
            }
            EventKind::Scalar => self.ended(span.end()),
            EventKind::Comment if self.open.is_empty() => self.comment(span),
            _ => {}
        }
    }

    /// A table that is one of many has no name by itself, and is none of ours.
    fn in_array(&mut self) {
        self.header.push(String::new());
        if let Some(name) = self.names.last_mut() {
            name.path.push(String::new());
        }
    }

    fn part(&mut self, event: &Event) {
        let mut name = std::borrow::Cow::Borrowed("");
        if let Some(raw) = self.source.get(event) {
            raw.decode_key(&mut name, &mut ());
        }
        self.parts.push((name.into_owned(), event.span().start()..event.span().end()));
    }

    /// The name that the parts at hand make.
    fn name(&mut self, kind: Kind, end: usize) -> Vec<String> {
        let (own_path, own): (Vec<String>, Vec<Range<usize>>) = self.parts.drain(..).unzip();
        let above = self.open.last().unwrap_or(&self.header);
        let path: Vec<String> = above.iter().cloned().chain(own_path).collect();
        self.names.push(Name { kind, path: path.clone(), own, end });
        path
    }

    fn ended(&mut self, end: usize) {
        if let Some(name) = self.outer.filter(|_| self.open.is_empty()).and_then(|at| self.names.get_mut(at)) {
            name.end = end;
        }
    }

    /// A key as the shipped file has it: `#name = value`, alone on its line.
    fn comment(&mut self, span: Span) {
        let before = self.text[..span.start()].rsplit('\n').next().unwrap_or_default();
        let Some(rest) = self.text[span.start()..span.end()].strip_prefix('#') else { return };
        let length = rest.bytes().take_while(|byte| byte.is_ascii_lowercase() || *byte == b'-').count();
        let is_key = length > 0 && rest[length..].trim_start_matches([' ', '\t']).starts_with('=');
        if is_key && before.trim().is_empty() {
            let start = span.start() + 1;
            let path = self.header.iter().cloned().chain([rest[..length].to_owned()]).collect();
            let place = start..start + length;
            self.names.push(Name { kind: Kind::CommentedOut, path, own: vec![place], end: span.end() });
        }
    }
}
