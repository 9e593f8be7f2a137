//! The schema of every kind, made of the types, and held against packaging/schemas: what was promised to the readers of v1 is
//! kept, or the version is raised.

use crate::model::document::{API_VERSION, Document, Versioned};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use super::super::golden::{self, REWRITE};
use super::promise::{Promise, compare};
use super::{ALL, samples, valid};

const DIRECTORY: &str = "packaging/schemas";

/// The schema of a kind, as its type has it.
pub(super) fn of<T: Document + JsonSchema>() -> Value {
    let generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    let mut schema = generator.into_root_schema_for::<T>().to_value();
    schema["title"] = json!(T::KIND);
    for (field, value, meaning) in [
        ("apiVersion", API_VERSION, "The version of the form: raised when a field or a value changes or goes."),
        ("kind", T::KIND, "What kind of document it is."),
    ] {
        let own = schema["properties"].get(field);
        assert!(own.is_none(), "{}: a field of its own is called {field}", T::KIND);
        schema["properties"][field] = json!({"type": "string", "const": value, "description": meaning});
        schema["required"].as_array_mut().expect("an object with required fields").insert(0, json!(field));
    }
    keep_open(&mut schema);
    schema
}

/// A document may get fields: a reader with today's schema accepts those of tomorrow.
fn keep_open(schema: &mut Value) {
    match schema {
        Value::Object(keywords) => {
            keywords.retain(|keyword, value| keyword != "additionalProperties" || *value != Value::Bool(false));
            keywords.values_mut().for_each(keep_open);
        }
        Value::Array(all) => all.iter_mut().for_each(keep_open),
        _ => {}
    }
}

/// `SnapshotList` in `snapshot-list.v1.json`.
fn file_name(kind: &str) -> String {
    let mut name = String::new();
    for letter in kind.chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('-');
        }
        name.extend(letter.to_lowercase());
    }
    let version = API_VERSION.rsplit('/').next().expect("a version");
    format!("{name}.{version}.json")
}

fn path(kind: &str) -> PathBuf {
    golden::in_tree(DIRECTORY).join(file_name(kind))
}

/// The schema as it is shipped.
fn shipped(kind: &str) -> Option<Value> {
    let text = fs::read_to_string(path(kind)).ok()?;
    Some(serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path(kind).display())))
}

#[test]
fn what_was_promised_of_this_version_is_kept() {
    let (mut broken, mut stale) = (String::new(), Vec::new());
    for (kind, schema) in ALL {
        let (schema, file) = (schema(), file_name(kind));
        let text = format!("{schema:#}\n");
        match shipped(kind).map_or(Promise::Kept, |shipped| compare(&shipped, &schema)) {
            Promise::Broken(gone) => {
                let _ = writeln!(broken, "{file}\n  {}", gone.join("\n  "));
            }
            Promise::Kept if golden::rewriting() => fs::write(path(kind), text).unwrap(),
            Promise::Kept if fs::read_to_string(path(kind)).is_ok_and(|shipped| shipped == text) => {}
            Promise::Kept => stale.push(file),
        }
    }
    assert!(
        broken.is_empty(),
        "readers of {API_VERSION} were promised, and no longer get:\n{broken}\nKeep the fields and their values. Otherwise raise \
         API_VERSION in src/model/document.rs, run `{REWRITE}`, and write the change into packaging/CHANGELOG.md. Before the \
         first release: remove the files in {DIRECTORY}, and run `{REWRITE}`."
    );
    assert!(
        stale.is_empty(),
        "a new field, value or description in {stale:?}: run `{REWRITE}`, and commit what it writes"
    );
}

#[test]
fn the_files_are_those_of_the_kinds() {
    let kinds: BTreeSet<String> = ALL.iter().map(|(kind, _)| file_name(kind)).collect();
    assert_eq!(kinds.len(), ALL.len(), "each kind once");
    let files = fs::read_dir(golden::in_tree(DIRECTORY)).unwrap();
    let files: BTreeSet<String> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    let gone: Vec<_> = files.difference(&kinds).collect();
    assert!(gone.is_empty(), "no kind of {API_VERSION} has these files: {gone:?}");
}

#[test]
fn real_documents_are_as_their_schemas_say() {
    let mut seen = BTreeSet::new();
    for (kind, document) in samples::all() {
        let schema = shipped(kind).unwrap_or_else(|| panic!("{} is missing: {REWRITE}", path(kind).display()));
        let faults = valid::faults(&schema, &document);
        assert!(faults.is_empty(), "{kind}: {faults:#?}\nin {document:#}");
        seen.insert(kind);
    }
    let all: BTreeSet<&str> = ALL.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(seen, all, "a real document of every kind");
}

/// A document as it is printed.
pub(super) fn printed<T: Document>(value: &T) -> (&'static str, Value) {
    (T::KIND, serde_json::to_value(Versioned::from(value)).unwrap())
}

#[test]
fn a_kind_names_its_file() {
    assert_eq!(file_name("Status"), "status.v1.json");
    assert_eq!(file_name("SnapshotList"), "snapshot-list.v1.json");
}
