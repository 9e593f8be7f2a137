//! The files that lastgood writes for itself: their fields change only with their version.
//!
//! ```text
//!   const FORMAT: Format { key, versions } ─┐
//!                                           ├─▶ tests/fixtures/formats/KEY-vN.fields, the fields of version N
//!   the type, and the types of its fields ──┘
//! ```
//!
//! A change of a field adds a line to the table of versions, a fixture of a file of that version, and the list of fields,
//! which `LASTGOOD_WRITE_GOLDEN=1 cargo nextest run --test house formats` writes. A list that exists is never overwritten: a
//! version that nobody has installed yet may be changed by removing its list first.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use syn::{Attribute, Expr, ExprLit, Fields, GenericArgument, Item, Lit, PathArguments, Type, UseTree};

use super::{root, rust_files};

/// The type of each format's body, and the file that defines it.
const BODIES: [(&str, &str, &str); 14] = [
    ("bundle", "src/snapshots/bundle/manifest.rs", "Bundle"),
    ("checks", "src/snapshots/checks.rs", "Checks"),
    ("contents", "src/record/generations.rs", "Contents"),
    ("event", "src/model/event.rs", "Event"),
    ("generation", "src/record/generations.rs", "Described"),
    ("intent", "src/etcd/restore/intent.rs", "Intent"),
    ("known", "src/model/etcd_history.rs", "EtcdHistory"),
    ("memory", "src/model/memory.rs", "Memory"),
    ("notified", "src/hook/sent_file.rs", "Notified"),
    ("proof", "src/snapshots/proof.rs", "Proof"),
    ("published", "src/record/published.rs", "PublishedFile"),
    ("remote", "src/model/snapshot.rs", "Remote"),
    ("restored", "src/etcd/restore/receipt.rs", "Record"),
    ("upload", "src/snapshots/remote/unfinished.rs", "Upload"),
];

/// One file of the source.
#[derive(Default)]
struct Source {
    /// The types that it defines and that are written to files, by name: their fields, and the types of those.
    types: BTreeMap<String, (String, BTreeSet<String>)>,
    /// The module that each imported name comes from.
    imports: BTreeMap<String, String>,
    /// Its formats: the key, and the number of versions.
    formats: Vec<(String, usize)>,
}

fn sources() -> BTreeMap<String, Source> {
    let program = rust_files().filter(|(name, _)| name.starts_with("src/"));
    program.map(|(name, text)| (name, source(syn::parse_file(&text).expect("it compiles").items))).collect()
}

fn source(items: Vec<Item>) -> Source {
    let mut source = Source::default();
    for item in items {
        match item {
            Item::Struct(item) if is_written(&item.attrs) => {
                let (mut used, attributes) = (BTreeSet::new(), serde(&item.attrs));
                let mut text = format!("{}{attributes}\n", item.ident);
                // What is written as another type keeps its fields to itself.
                if !attributes.contains("into = ") {
                    text.push_str(&fields(&item.fields, "  ", &mut used));
                }
                source.types.insert(item.ident.to_string(), (text, used));
            }
            Item::Enum(item) if is_written(&item.attrs) => {
                let mut used = BTreeSet::new();
                let mut text = format!("{}{}\n", item.ident, serde(&item.attrs));
                for variant in &item.variants {
                    let _ = writeln!(text, "  {}{}", variant.ident, serde(&variant.attrs));
                    text.push_str(&fields(&variant.fields, "    ", &mut used));
                }
                source.types.insert(item.ident.to_string(), (text, used));
            }
            Item::Use(item) => imports(&item.tree, "", &mut source.imports),
            Item::Const(item) if matches!(&*item.ty, Type::Path(path) if path.path.is_ident("Format")) => {
                source.formats.extend(format_of(&item.expr));
            }
            _ => {}
        }
    }
    source
}

/// Whether it is written to files.
fn is_written(attributes: &[Attribute]) -> bool {
    let derives = attributes.iter().filter(|attribute| attribute.path().is_ident("derive"));
    derives
        .filter_map(|derive| derive.meta.require_list().ok())
        .any(|list| list.tokens.to_string().split(|c: char| !c.is_alphanumeric()).any(|word| word == "Serialize"))
}

/// What the attributes say of how it is written.
fn serde(attributes: &[Attribute]) -> String {
    let serde = attributes.iter().filter(|attribute| attribute.path().is_ident("serde"));
    serde.filter_map(|attribute| attribute.meta.require_list().ok()).map(|list| format!(" [{}]", list.tokens)).collect()
}

fn fields(fields: &Fields, indent: &str, used: &mut BTreeSet<String>) -> String {
    let mut text = String::new();
    for (number, field) in fields.iter().enumerate() {
        let name = field.ident.as_ref().map_or(number.to_string(), ToString::to_string);
        let _ = writeln!(text, "{indent}{name}: {}{}", type_of(&field.ty, used), serde(&field.attrs));
    }
    text
}

/// A type that [`type_of`] does not know.
const UNNAMED: &str = "(unnamed)";

fn type_of(ty: &Type, used: &mut BTreeSet<String>) -> String {
    match ty {
        Type::Path(path) => {
            let last = path.path.segments.last().expect("a path has a name");
            used.insert(last.ident.to_string());
            let PathArguments::AngleBracketed(arguments) = &last.arguments else { return last.ident.to_string() };
            let arguments: Vec<String> = arguments
                .args
                .iter()
                .filter_map(|argument| match argument {
                    GenericArgument::Type(ty) => Some(type_of(ty, used)),
                    _ => None,
                })
                .collect();
            format!("{}<{}>", last.ident, arguments.join(", "))
        }
        Type::Tuple(tuple) => {
            let elements: Vec<String> = tuple.elems.iter().map(|ty| type_of(ty, used)).collect();
            format!("({})", elements.join(", "))
        }
        Type::Reference(reference) => type_of(&reference.elem, used),
        Type::Array(array) => format!("[{}]", type_of(&array.elem, used)),
        _ => UNNAMED.to_owned(),
    }
}

fn imports(tree: &UseTree, module: &str, found: &mut BTreeMap<String, String>) {
    match tree {
        UseTree::Path(path) => imports(&path.tree, &path.ident.to_string(), found),
        UseTree::Name(name) => drop(found.insert(name.ident.to_string(), module.to_owned())),
        UseTree::Rename(_) | UseTree::Glob(_) => {}
        UseTree::Group(group) => group.items.iter().for_each(|tree| imports(tree, module, found)),
    }
}

/// Nothing where a format is not written out as a constant: then it is missing among the bodies.
fn format_of(value: &Expr) -> Option<(String, usize)> {
    let Expr::Struct(value) = value else { return None };
    let (mut key, mut versions) = (None, None);
    for field in &value.fields {
        match &field.expr {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => key = Some(text.value()),
            Expr::Reference(reference) => {
                if let Expr::Array(array) = &*reference.expr {
                    versions = Some(array.elems.len());
                }
            }
            _ => {}
        }
    }
    key.zip(versions)
}

/// The file that defines what a file means by a name; nothing where it is no type of ours.
fn defined<'s>(sources: &'s BTreeMap<String, Source>, file: &str, name: &str) -> Option<&'s str> {
    let candidates: Vec<&String> =
        sources.iter().filter(|(_, source)| source.types.contains_key(name)).map(|(file, _)| file).collect();
    let module = sources[file].imports.get(name).map(String::as_str).unwrap_or_default();
    let of_module = |path: &str| path.ends_with(&format!("/{module}.rs"));
    // A module may pass on what its children define.
    let below = |path: &str| path.contains(&format!("/{module}/"));
    let beside = |path: &str| Path::new(path).parent() == Path::new(file).parent();
    let rules: [&dyn Fn(&str) -> bool; 5] =
        [&|path| path == file, &of_module, &below, &|_| candidates.len() == 1, &beside];
    for rule in rules {
        let mut fits = candidates.iter().filter(|path| rule(path));
        if let (Some(path), None) = (fits.next(), fits.next()) {
            return Some(path);
        }
    }
    assert!(candidates.is_empty(), "{file} may mean any {name} of {candidates:?}");
    None
}

/// The fields of a type, and of all types that its fields have.
fn listed(sources: &BTreeMap<String, Source>, file: &str, name: &str) -> String {
    let mut left = vec![(file.to_owned(), name.to_owned())];
    let (mut seen, mut text) = (BTreeSet::new(), BTreeMap::new());
    while let Some((file, name)) = left.pop() {
        if !seen.insert((file.clone(), name.clone())) {
            continue;
        }
        let (fields, used) = &sources[&file].types[&name];
        // The body of the file comes first.
        let place = (text.len().min(1), name, file.clone());
        text.insert(place, fields.clone());
        left.extend(used.iter().filter_map(|used| Some((defined(sources, &file, used)?.to_owned(), used.clone()))));
    }
    text.into_values().collect()
}

#[test]
fn a_field_of_a_file_changes_only_with_its_version() {
    let sources = sources();
    let formats: BTreeMap<String, usize> = sources.values().flat_map(|source| source.formats.clone()).collect();
    let written: Vec<&str> = formats.keys().map(String::as_str).collect();
    assert_eq!(written, BODIES.map(|(key, ..)| key), "every format has a body, and every body a format");
    for (key, file, name) in BODIES {
        let version = formats[key];
        let path = format!("tests/fixtures/formats/{key}-v{version}.fields");
        let now = listed(&sources, file, name);
        assert!(!now.contains(UNNAMED), "{key}: this test has to learn the type of a field\n{now}");
        if std::env::var_os("LASTGOOD_WRITE_GOLDEN").is_some() && !root().join(&path).exists() {
            fs::write(root().join(&path), &now).expect("the list can be written");
        }
        let recorded = fs::read_to_string(root().join(&path)).unwrap_or_default();
        assert!(
            now == recorded,
            "{path} does not list the fields of {name} ({file}). A changed field is another version: add a line to the \
             `versions` of the format {key:?}, then write the list and a fixture as tests/house/formats.rs says.\n{now}"
        );
        for version in 1..=version {
            let fixture = format!("tests/fixtures/formats/{key}-v{version}.json");
            assert!(root().join(&fixture).exists(), "{fixture}: every version that was ever written has a file");
        }
    }
}

#[test]
fn what_is_recorded_of_the_fields_is_complete() {
    let sources = sources();
    let memory = listed(&sources, "src/model/memory.rs", "Memory");
    // The body, a type of a map in a vector in a tuple of another file, an attribute and a variant.
    for part in [
        "Memory\n",
        "  change_set: Option<ChangeSet> [default",
        "ComponentState [",
        "  Held\n    0: Held\n",
        "ClosureFile\n",
    ] {
        assert!(memory.contains(part), "{part:?} is missing in\n{memory}");
    }
    assert!(memory.starts_with("Memory\n"), "{memory}");
}
