//! The import graph of the program, read from its source: which module uses which, tests aside.
//!
//! ```text
//!   lib.rs ──mod──▶ files ──syn──▶ Source: names it brings in, paths it writes, items it defines ──resolve──▶ Graph
//! ```
//!
//! A path counts wherever it is written: in a `use`, a signature, an expression, the arguments of a macro. A name that a
//! module only passes on (`pub use`) is followed to the module that defines it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, Item, ItemMod, ItemUse, UseTree};

/// A module's path below the crate: `decide::lineage`. The crate itself is the empty one.
pub(super) type Module = String;

/// What one module says of others, before names are resolved.
#[derive(Default)]
struct Source {
    /// Names that it brings in or re-exports, and what each means there.
    names: BTreeMap<String, Vec<String>>,
    /// `use path::*`
    globs: Vec<Vec<String>>,
    /// Every path it writes.
    paths: BTreeSet<Vec<String>>,
    /// Names of what it defines itself, child modules aside.
    defines: BTreeSet<String>,
}

/// Which module uses which.
pub(super) struct Graph {
    /// Of each module, the modules that it uses.
    pub(super) edges: BTreeMap<Module, BTreeSet<Module>>,
}

impl Graph {
    /// Reads the program below `src`.
    pub(super) fn read(src: &Path) -> Self {
        let mut sources = BTreeMap::new();
        file(&src.join("lib.rs"), src, Vec::new(), &mut sources);
        let mut edges = BTreeMap::new();
        for (module, source) in &sources {
            let used = source.paths.iter().filter_map(|path| resolve(&sources, module, path, 0));
            let used = used.filter(|used| used != module).collect();
            edges.insert(module.clone(), used);
        }
        Self { edges }
    }

    /// The graph of what a function makes of the modules: a room of each, for example.
    pub(super) fn grouped(&self, group: impl Fn(&str) -> Option<String>) -> Self {
        let mut edges: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for (from, used) in &self.edges {
            let Some(from) = group(from) else { continue };
            let used = used.iter().filter_map(|to| group(to)).filter(|to| *to != from);
            edges.entry(from.clone()).or_default().extend(used);
        }
        Self { edges }
    }

    /// The groups of modules that use each other in a circle, the largest first (Tarjan's algorithm).
    pub(super) fn cycles(&self) -> Vec<Vec<Module>> {
        let mut search =
            Search { graph: self, index: BTreeMap::new(), low: BTreeMap::new(), stack: Vec::new(), found: Vec::new() };
        for module in self.edges.keys() {
            if !search.index.contains_key(module.as_str()) {
                search.visit(module);
            }
        }
        let mut found = search.found;
        found.sort_by_key(|cycle| (usize::MAX - cycle.len(), cycle.first().cloned()));
        found
    }
}

struct Search<'a> {
    graph: &'a Graph,
    index: BTreeMap<&'a str, usize>,
    low: BTreeMap<&'a str, usize>,
    stack: Vec<&'a str>,
    found: Vec<Vec<Module>>,
}

impl<'a> Search<'a> {
    fn visit(&mut self, module: &'a str) {
        let number = self.index.len();
        self.index.insert(module, number);
        self.low.insert(module, number);
        self.stack.push(module);
        let graph = self.graph;
        for used in graph.edges.get(module).into_iter().flatten() {
            if !self.index.contains_key(used.as_str()) {
                self.visit(used);
                let low = self.low[used.as_str()].min(self.low[module]);
                self.low.insert(module, low);
            } else if self.stack.contains(&used.as_str()) {
                let low = self.index[used.as_str()].min(self.low[module]);
                self.low.insert(module, low);
            }
        }
        if self.low[module] == number {
            let at = self.stack.iter().position(|on| *on == module).expect("it was pushed");
            let mut cycle: Vec<_> = self.stack.split_off(at).into_iter().map(str::to_owned).collect();
            cycle.sort();
            if cycle.len() > 1 {
                self.found.push(cycle);
            }
        }
    }
}

fn file(path: &Path, children: &Path, module: Vec<String>, sources: &mut BTreeMap<Module, Source>) {
    let named = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let text = fs::read_to_string(path).map_err(|error| named(&error)).expect("a source file");
    let parsed = syn::parse_file(&text).map_err(|error| named(&error)).expect("Rust");
    items(&parsed.items, children, module, sources);
}

fn items(items: &[Item], children: &Path, module: Vec<String>, sources: &mut BTreeMap<Module, Source>) {
    let mut reader = Reader { module: module.clone(), source: Source::default(), modules: Vec::new(), exported: false };
    for item in items {
        reader.visit_item(item);
    }
    let Reader { source, modules, .. } = reader;
    sources.insert(module.join("::"), source);
    for child in modules {
        let name = child.ident.to_string();
        let below: Vec<_> = module.iter().cloned().chain([name.clone()]).collect();
        let directory = children.join(&name);
        match &child.content {
            Some((_, content)) => self::items(content, &directory, below, sources),
            None => {
                let flat = children.join(format!("{name}.rs"));
                let path = if flat.exists() { flat } else { directory.join("mod.rs") };
                file(&path, &directory, below, sources);
            }
        }
    }
}

/// `#[cfg(test)]`, alone or as one of what `all(…)` asks for.
fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let syn::Meta::List(list) = &attribute.meta else { return attribute.path().is_ident("test") };
        let text = list.tokens.to_string();
        list.path.is_ident("cfg") && (text == "test" || text.starts_with("all (test") || text.starts_with("all(test"))
    })
}

/// Reads one module: what it writes, without what its child modules write.
struct Reader {
    module: Vec<String>,
    source: Source,
    modules: Vec<ItemMod>,
    /// The import at hand only passes a name on.
    exported: bool,
}

impl Reader {
    /// A path from the crate, if it begins with a word that says where: `crate`, `super`, `self`.
    fn absolute(&self, path: &[String]) -> Vec<String> {
        let mut at = self.module.clone();
        let mut rest = path;
        match path.first().map(String::as_str) {
            Some("crate") => {
                at.clear();
                rest = &path[1..];
            }
            Some("self") => rest = &path[1..],
            Some("super") => {
                while rest.first().is_some_and(|word| word == "super") {
                    at.pop();
                    rest = &rest[1..];
                }
            }
            _ => {}
        }
        at.extend(rest.iter().cloned());
        at
    }

    fn path(&mut self, path: Vec<String>) {
        let absolute = self.absolute(&path);
        self.source.paths.insert(absolute);
    }

    fn tree(&mut self, before: &[String], tree: &UseTree) {
        let with = |name: String| before.iter().cloned().chain([name]).collect::<Vec<_>>();
        match tree {
            UseTree::Path(path) => self.tree(&with(path.ident.to_string()), &path.tree),
            UseTree::Name(name) => {
                let name = name.ident.to_string();
                let path = if name == "self" { before.to_vec() } else { with(name) };
                self.named(path.last().cloned().unwrap_or_default(), path);
            }
            UseTree::Rename(rename) => self.named(rename.rename.to_string(), with(rename.ident.to_string())),
            UseTree::Glob(_) => {
                let absolute = self.absolute(before);
                self.source.globs.push(absolute.clone());
                self.source.paths.insert(absolute.into_iter().chain(["*".to_owned()]).collect());
            }
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.tree(before, tree)),
        }
    }

    fn named(&mut self, name: String, path: Vec<String>) {
        let absolute = self.absolute(&path);
        self.source.names.insert(name, absolute);
        if !self.exported {
            self.path(path);
        }
    }

    /// The paths in a macro's arguments, which are no syntax yet.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.ended(&mut path);
                    }
                    path.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Group(group) => {
                    self.ended(&mut path);
                    colons = 0;
                    self.tokens(group.stream());
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => {
                    self.ended(&mut path);
                    colons = 0;
                }
            }
        }
        self.ended(&mut path);
    }

    fn ended(&mut self, path: &mut Vec<String>) {
        if path.len() > 1 {
            self.path(std::mem::take(path));
        }
        path.clear();
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item(&mut self, item: &'ast Item) {
        let (attributes, name) = match item {
            Item::Const(item) => (&item.attrs, Some(&item.ident)),
            Item::Enum(item) => (&item.attrs, Some(&item.ident)),
            Item::Fn(item) => (&item.attrs, Some(&item.sig.ident)),
            Item::Macro(item) => (&item.attrs, item.ident.as_ref()),
            Item::Static(item) => (&item.attrs, Some(&item.ident)),
            Item::Struct(item) => (&item.attrs, Some(&item.ident)),
            Item::Trait(item) => (&item.attrs, Some(&item.ident)),
            Item::Type(item) => (&item.attrs, Some(&item.ident)),
            Item::Impl(item) => (&item.attrs, None),
            Item::Mod(item) => (&item.attrs, None),
            Item::Use(item) => (&item.attrs, None),
            _ => return visit::visit_item(self, item),
        };
        if is_test(attributes) {
            return;
        }
        self.source.defines.extend(name.map(ToString::to_string));
        visit::visit_item(self, item);
    }

    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        self.modules.push(module.clone());
    }

    fn visit_item_use(&mut self, import: &'ast ItemUse) {
        self.exported = !matches!(import.vis, syn::Visibility::Inherited);
        self.tree(&[], &import.tree);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        if !is_test(&function.attrs) {
            visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let words: Vec<_> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.path(words);
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.tokens(call.tokens.clone());
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        if let syn::Meta::List(list) = &attribute.meta {
            self.tokens(list.tokens.clone());
        }
    }
}

/// The module that defines what a path means, seen from the crate; none for what is no module of ours.
fn resolve(sources: &BTreeMap<Module, Source>, from: &str, path: &[String], depth: usize) -> Option<Module> {
    // The longest part of the path that is a module.
    let length = (0..=path.len()).rev().find(|length| sources.contains_key(&path[..*length].join("::")))?;
    let module = path[..length].join("::");
    // A module that is only brought in is used where something of it is named.
    let name = path.get(length)?;
    if name == "*" {
        return Some(module);
    }
    let source = &sources[&module];
    if source.defines.contains(name) || depth > 8 {
        return Some(module);
    }
    if let Some(target) = source.names.get(name) {
        // `use tokio::time` in a module is a path of another crate, written as if it were below the module.
        if target[..] != path[..=length] {
            let whole: Vec<_> = target.iter().chain(&path[length + 1..]).cloned().collect();
            let found = resolve(sources, from, &whole, depth + 1);
            return found.filter(|found| *found != module || module == from || !is_external(sources, target, &module));
        }
    }
    for glob in &source.globs {
        let whole: Vec<_> = glob.iter().chain(&path[length..]).cloned().collect();
        if let Some(found) = resolve(sources, from, &whole, depth + 1)
            && sources[&found].defines.contains(name)
        {
            return Some(found);
        }
    }
    // A method, a variant, a local name, another crate.
    None
}

/// Whether a path that was taken as relative to a module leads to no module below it: it begins with another crate.
fn is_external(sources: &BTreeMap<Module, Source>, path: &[String], module: &str) -> bool {
    let below = if module.is_empty() { 1 } else { module.split("::").count() + 1 };
    path.len() >= below && !sources.contains_key(&path[..below].join("::"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The edges of a program of these files.
    fn edges(files: &[(&str, &str)]) -> Vec<String> {
        let dir = tempfile::tempdir().expect("a directory");
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().expect("it has one")).expect("it can be made");
            fs::write(path, text).expect("it can be written");
        }
        let graph = Graph::read(dir.path());
        let each = graph.edges.iter().flat_map(|(from, used)| used.iter().map(move |to| format!("{from} {to}")));
        each.collect()
    }

    #[test]
    fn a_path_is_an_edge_wherever_it_is_written() {
        for (situation, text) in [
            ("a use", "use crate::b::B;"),
            ("one of a list", "use crate::{b::B, c};"),
            ("another name", "use crate::b::B as Other;"),
            ("everything", "use crate::b::*;"),
            ("a sibling", "use super::b::B;"),
            ("a signature", "fn f(_: crate::b::B) {}"),
            ("an expression", "fn f() { crate::b::f(); }"),
            ("through the module", "use crate::b; fn f() { b::f(); }"),
            ("a macro", "fn f() { println!(\"{:?}\", crate::b::B); }"),
            ("passed on by the crate", "use crate::B;"),
            ("not only a test", "#[cfg(not(test))] use crate::b::B;"),
        ] {
            let crate_text = "mod a; mod b; mod c; pub use b::B;";
            let found =
                edges(&[("lib.rs", crate_text), ("a.rs", text), ("b.rs", "pub struct B; pub fn f() {}"), ("c.rs", "")]);
            assert_eq!(found, ["a b"], "{situation}");
        }
    }

    #[test]
    fn what_is_no_use_of_a_module_is_no_edge() {
        for (situation, text) in [
            ("a test's", "#[cfg(test)] mod tests { use crate::b::B; }"),
            ("a test's import", "#[cfg(test)] use crate::b::B;"),
            ("another crate's module of the same name", "use std::b::B;"),
            ("only passed on", "pub use crate::b::B;"),
            ("a comment", "// crate::b::B"),
            ("a text", "const A: &str = \"crate::b::B\";"),
        ] {
            let found = edges(&[("lib.rs", "mod a; mod b;"), ("a.rs", text), ("b.rs", "pub struct B;")]);
            assert_eq!(found, [""; 0], "{situation}");
        }
    }

    #[test]
    fn modules_that_use_each_other_are_one_cycle() {
        let graph = |edges: &[(&str, &str)]| {
            let mut graph = Graph { edges: BTreeMap::new() };
            for (from, to) in edges {
                graph.edges.entry((*from).to_owned()).or_default().insert((*to).to_owned());
                graph.edges.entry((*to).to_owned()).or_default();
            }
            graph.cycles()
        };
        assert_eq!(graph(&[("a", "b"), ("b", "c"), ("a", "c")]), [[""; 0]; 0]);
        assert_eq!(graph(&[("a", "b"), ("b", "c"), ("c", "a"), ("c", "d")]), [["a", "b", "c"]]);
        assert_eq!(graph(&[("a", "b"), ("b", "a"), ("c", "d"), ("d", "c")]).len(), 2);
    }
}
