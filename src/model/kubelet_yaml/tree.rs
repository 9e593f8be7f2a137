//! The first document of a YAML stream, with its aliases and merges resolved, as the kubelet's YAML package decodes it
//! into a value of no particular type. Of a key that is given twice the last counts.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};

use libyaml_safer::{Event, EventData, Parser, ScalarStyle};
use serde_json::Value;

use super::Undecodable;
use super::scalar::{Scalar, resolve};

/// How deep we go. No Pod is half as deep; the kubelet goes to 10 000, so what is deeper is only beyond us.
const DEPTH: usize = 200;

thread_local! {
    static PARSES: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread parses at the moment: a panic is then an answer, and nothing to print.
pub fn parses() -> bool {
    PARSES.get()
}

enum Node {
    Scalar { tag: Option<String>, value: String, implicit: bool },
    Sequence(Vec<usize>),
    Mapping(Vec<(usize, usize)>),
    Alias { name: String, target: usize },
}

type Result<T> = std::result::Result<T, Undecodable>;

/// The value of the first document; `Null` without one.
pub(super) fn first_document(text: &str) -> Result<Value> {
    // The scanner's block scalars want a last line that ends; `Events::next` takes it away again.
    let cut = !text.ends_with(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']);
    let text = if cut { format!("{text}\n") } else { text.to_owned() };
    // One place of the scanner is marked by its author as not thought out, and panics (a comma behind a tag). No file
    // may end the agent, and of this one nothing is known.
    PARSES.set(true);
    let document = catch_unwind(AssertUnwindSafe(|| document(&text, cut)));
    PARSES.set(false);
    document.unwrap_or_else(|_| Err(Undecodable::Beyond("the parser failed on it".to_owned())))
}

fn document(text: &str, cut: bool) -> Result<Value> {
    let mut bytes = text.as_bytes();
    let mut parser = Parser::new();
    parser.set_input_string(&mut bytes);
    let events = Events { parser, text, cut, line: 1 };
    let mut tree = Tree { events, nodes: Vec::new(), lines: Vec::new(), anchors: HashMap::new() };
    loop {
        match tree.events.next()? {
            EventData::StreamStart { .. } => {}
            EventData::DocumentStart { version_directive: Some(version), .. }
                if (version.major, version.minor) != (1, 1) =>
            {
                return Err(Undecodable::Syntax(tree.events.here("it says that it is another YAML than 1.1")));
            }
            EventData::DocumentStart { .. } => break,
            _ => return Ok(Value::Null),
        }
    }
    let event = tree.events.next()?;
    let root = tree.node(event, 0)?;
    // The scanner has to come to the end of the document, for the kubelet as for us.
    tree.events.next()?;
    let Tree { nodes, lines, .. } = &tree;
    let mut decoder = Decoder { nodes, lines, active: BTreeSet::new(), count: 0, aliased: 0, alias_depth: 0 };
    decoder.value(root, 0)?.into_json().map_err(Undecodable::Refused)
}

struct Events<'t, 'b> {
    parser: Parser<&'t mut &'b [u8]>,
    text: &'t str,
    /// The last line of the file has no end, and was given one.
    cut: bool,
    /// Where the last event begins.
    line: u64,
}

impl Events<'_, '_> {
    fn next(&mut self) -> Result<EventData> {
        let mut event = self.parser.parse().map_err(|error| scanner_error(&error.to_string()))?;
        self.line = event.start_mark.line + 1;
        let to = event.end_mark.index as usize;
        if let EventData::Scalar { value, style, .. } = &mut event.data {
            let block = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
            if self.cut && block && to >= self.text.len() && value.ends_with('\n') {
                value.pop();
            }
            if *style == ScalarStyle::DoubleQuoted && value.contains('/') && self.escapes_a_slash(&event) {
                return Err(Undecodable::Syntax(self.here("found unknown escape character `\\/`")));
            }
        }
        Ok(event.data)
    }

    /// What is wrong with the last event.
    fn here(&self, why: &str) -> String {
        at_line(self.line, why)
    }

    /// `\/` came with YAML 1.2: this scanner knows it, the kubelet's does not.
    fn escapes_a_slash(&self, event: &Event) -> bool {
        let written = self.text.get(event.start_mark.index as usize..event.end_mark.index as usize).unwrap_or_default();
        let mut characters = written.chars();
        while let Some(c) = characters.next() {
            if c == '\\' && characters.next() == Some('/') {
                return true;
            }
        }
        false
    }
}

/// As the scanner says it: `line 3 column 5: why`.
fn at_line(line: u64, why: &str) -> String {
    format!("line {line}: {why}")
}

/// What this scanner refuses, the kubelet's refuses as well, with two exceptions: it takes `a:` before a bracket in a flow
/// collection, and is less strict about what a tag is made of.
fn scanner_error(error: &str) -> Undecodable {
    const OURS: [&str; 2] = ["found unexpected ':'", "did not find expected tag URI"];
    if OURS.iter().any(|ours| error.contains(ours)) {
        return Undecodable::Beyond(error.to_owned());
    }
    Undecodable::Syntax(error.to_owned())
}

struct Tree<'t, 'b> {
    events: Events<'t, 'b>,
    nodes: Vec<Node>,
    /// Where each of them begins.
    lines: Vec<u64>,
    /// An anchor that is given again is the newer one from there on.
    anchors: HashMap<String, usize>,
}

impl Tree<'_, '_> {
    fn node(&mut self, event: EventData, depth: usize) -> Result<usize> {
        within(self.events.line, depth)?;
        let at = self.nodes.len();
        match event {
            EventData::Scalar { anchor, tag, value, plain_implicit, .. } => {
                self.add(anchor, Node::Scalar { tag, value, implicit: plain_implicit });
            }
            EventData::Alias { anchor: name } => {
                let unknown = || Undecodable::Syntax(self.events.here(&format!("unknown anchor '{name}' referenced")));
                let target = *self.anchors.get(&name).ok_or_else(unknown)?;
                self.add(None, Node::Alias { name, target });
            }
            EventData::SequenceStart { anchor, .. } => {
                self.add(anchor, Node::Sequence(Vec::new()));
                let mut items = Vec::new();
                loop {
                    match self.events.next()? {
                        EventData::SequenceEnd => break,
                        event => items.push(self.node(event, depth + 1)?),
                    }
                }
                self.nodes[at] = Node::Sequence(items);
            }
            EventData::MappingStart { anchor, .. } => {
                self.add(anchor, Node::Mapping(Vec::new()));
                let mut entries = Vec::new();
                loop {
                    let key = match self.events.next()? {
                        EventData::MappingEnd => break,
                        event => self.node(event, depth + 1)?,
                    };
                    let event = self.events.next()?;
                    entries.push((key, self.node(event, depth + 1)?));
                }
                self.nodes[at] = Node::Mapping(entries);
            }
            _ => return Err(Undecodable::Syntax(self.events.here("the document ends within a value"))),
        }
        Ok(at)
    }

    /// Adds a node, whose anchor is known within it already: one may refer to what it is in, and is refused later.
    fn add(&mut self, anchor: Option<String>, node: Node) {
        if let Some(anchor) = anchor {
            self.anchors.insert(anchor, self.nodes.len());
        }
        self.nodes.push(node);
        self.lines.push(self.events.line);
    }
}

/// A value before it is JSON. What JSON has no word for is refused at the end: a later value of the same key may replace it.
enum Any {
    Scalar(Placed),
    List(Vec<Any>),
    /// By the key's notation: 1 and "1" are two keys until they are JSON.
    Map(Entries),
}

/// A scalar, and its line.
struct Placed {
    scalar: Scalar,
    line: u64,
}

impl Placed {
    fn refused(&self, why: &str) -> String {
        at_line(self.line, why)
    }
}

impl Any {
    fn into_json(self) -> std::result::Result<Value, String> {
        match self {
            Self::Scalar(it) => it.scalar.to_json().map_err(|why| it.refused(&why)),
            Self::List(items) => items.into_iter().map(Self::into_json).collect(),
            Self::Map(entries) => {
                let named = |key: &Placed| key.scalar.to_key().map_err(|why| key.refused(&why));
                entries.into_values().map(|(key, value)| Ok((named(&key)?, value.into_json()?))).collect()
            }
        }
    }
}

type Entries = BTreeMap<String, (Placed, Any)>;

struct Decoder<'n> {
    nodes: &'n [Node],
    lines: &'n [u64],
    /// The aliases that are being followed.
    active: BTreeSet<usize>,
    count: usize,
    aliased: usize,
    alias_depth: usize,
}

impl Decoder<'_> {
    fn value(&mut self, at: usize, depth: usize) -> Result<Any> {
        self.step(at, depth)?;
        match &self.nodes[at] {
            Node::Scalar { .. } => self.scalar(at).map(Any::Scalar),
            Node::Sequence(items) => {
                let items: Result<_> = items.iter().map(|item| self.value(*item, depth + 1)).collect();
                items.map(Any::List)
            }
            Node::Mapping(entries) => {
                let mut map = Entries::new();
                self.entries(entries, &mut map, depth)?;
                Ok(Any::Map(map))
            }
            Node::Alias { name, target } => {
                self.enter(at, name)?;
                let value = self.value(*target, depth + 1);
                self.leave(at);
                value
            }
        }
    }

    fn entries(&mut self, entries: &[(usize, usize)], map: &mut Entries, depth: usize) -> Result<()> {
        for (key, value) in entries {
            if self.is_merge(*key) {
                self.merge(*value, map, depth)?;
                continue;
            }
            let key = self.key(*key, depth + 1)?;
            let value = self.value(*value, depth + 1)?;
            map.insert(format!("{:?}", key.scalar), (key, value));
        }
        Ok(())
    }

    /// Puts the entries of other mappings into this one. They overwrite what was given before them, and what follows
    /// overwrites them; of a list of mappings the first counts most.
    fn merge(&mut self, at: usize, map: &mut Entries, depth: usize) -> Result<()> {
        match &self.nodes[at] {
            Node::Sequence(items) => items.iter().rev().try_for_each(|item| self.merge_one(*item, map, depth + 1)),
            _ => self.merge_one(at, map, depth + 1),
        }
    }

    fn merge_one(&mut self, at: usize, map: &mut Entries, depth: usize) -> Result<()> {
        self.step(at, depth)?;
        match &self.nodes[at] {
            Node::Mapping(entries) => self.entries(entries, map, depth),
            Node::Alias { name, target } if matches!(self.nodes[*target], Node::Mapping(_)) => {
                self.enter(at, name)?;
                let merged = self.merge_one(*target, map, depth + 1);
                self.leave(at);
                merged
            }
            _ => Err(self.refused(at, "`<<` wants a mapping, or a list of mappings")),
        }
    }

    fn key(&mut self, at: usize, depth: usize) -> Result<Placed> {
        self.step(at, depth)?;
        match &self.nodes[at] {
            Node::Scalar { .. } => self.scalar(at),
            Node::Alias { name, target } => {
                self.enter(at, name)?;
                let key = self.key(*target, depth + 1);
                self.leave(at);
                key
            }
            Node::Sequence(_) | Node::Mapping(_) => Err(self.refused(at, "a key that is a list or a mapping")),
        }
    }

    fn scalar(&self, at: usize) -> Result<Placed> {
        let scalar = match &self.nodes[at] {
            Node::Scalar { tag, value, implicit } => resolve(tag.as_deref(), value, *implicit),
            Node::Sequence(_) | Node::Mapping(_) | Node::Alias { .. } => Ok(Scalar::Null),
        };
        let scalar = scalar.map_err(|why| self.refused(at, &why))?;
        Ok(Placed { scalar, line: self.lines[at] })
    }

    fn refused(&self, at: usize, why: &str) -> Undecodable {
        Undecodable::Refused(at_line(self.lines[at], why))
    }

    fn is_merge(&self, at: usize) -> bool {
        let Node::Scalar { tag, value, implicit } = &self.nodes[at] else { return false };
        value == "<<" && (*implicit || tag.as_deref() == Some("tag:yaml.org,2002:merge"))
    }

    fn enter(&mut self, alias: usize, name: &str) -> Result<()> {
        self.alias_depth += 1;
        if self.active.insert(alias) {
            return Ok(());
        }
        Err(self.refused(alias, &format!("anchor '{name}' value contains itself")))
    }

    fn leave(&mut self, alias: usize) {
        self.alias_depth -= 1;
        self.active.remove(&alias);
    }

    /// Counts as that package counts, which gives up where most of a document is repetition.
    fn step(&mut self, at: usize, depth: usize) -> Result<()> {
        within(self.lines[at], depth)?;
        self.count += 1;
        if self.alias_depth > 0 {
            self.aliased += 1;
        }
        if self.aliased > 100 && self.count > 1000 && self.aliased as f64 / self.count as f64 > allowed(self.count) {
            return Err(self.refused(at, "document contains excessive aliasing"));
        }
        Ok(())
    }
}

/// The share of a document that may come from aliases: 99 % up to 400 000 values, 10 % from 4 000 000 on.
fn allowed(count: usize) -> f64 {
    const LOW: f64 = 400_000.0;
    const HIGH: f64 = 4_000_000.0;
    let count = (count as f64).clamp(LOW, HIGH);
    0.99 - 0.89 * ((count - LOW) / (HIGH - LOW))
}

fn within(line: u64, depth: usize) -> Result<()> {
    if depth < DEPTH {
        return Ok(());
    }
    Err(Undecodable::Beyond(at_line(line, &format!("more than {DEPTH} levels deep, and lastgood reads no deeper"))))
}
