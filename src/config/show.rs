//! Printers of the configuration: `config show` as TOML and JSON, the shipped example.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::keys::Keys;
use super::{Loaded, Settings};

/// The effective values as TOML, each with where it comes from in a comment. A value that is found on the node stands as a
/// comment itself.
pub fn as_toml(loaded: &Loaded) -> String {
    let mut out = String::new();
    let mut table = "";
    for key in loaded.keys.iter() {
        let (of, name) = key.split();
        if of != table {
            let _ = write!(out, "\n[{of}]\n");
            table = of;
        }
        let mut origin = loaded.origins.get(key.name).map_or("default".to_owned(), ToString::to_string);
        if let Some(old) = loaded.old_name(key.name) {
            let _ = write!(origin, " as {}", old.old);
        }
        let _ = match key.print(&loaded.settings) {
            Some(value) => writeln!(out, "{name} = {value}  # {origin}"),
            None => writeln!(out, "# {name}: {}", key.found()),
        };
    }
    out
}

/// The effective values, for machines.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Configuration {
    /// Every key, such as `candidate.soak`.
    pub keys: BTreeMap<String, Shown>,
}

/// One value, for machines.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Shown {
    /// The value; null where it is found on the node.
    pub value: Option<serde_json::Value>,
    /// The file that gives it; absent for a default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The line in that file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// The old name of the key, where the file has that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old_name: Option<&'static str>,
}

/// The effective values: by key, the value and, where a file gives it, the file, its line and the old name that is there.
pub fn for_machines(loaded: &Loaded) -> Configuration {
    let shown = loaded.keys.iter().map(|key| {
        let printed = key.print(&loaded.settings);
        // A printed value is TOML; a document of one key makes it a value again.
        let value = printed.and_then(|printed| format!("v = {printed}").parse::<toml::Table>().ok());
        let origin = loaded.origins.get(key.name);
        let shown = Shown {
            value: value.and_then(|mut table| serde_json::to_value(table.remove("v")?).ok()),
            file: origin.map(|origin| origin.file.display().to_string()),
            line: origin.map(|origin| origin.line),
            old_name: loaded.old_name(key.name).map(|old| old.old),
        };
        (key.name.to_owned(), shown)
    });
    Configuration { keys: shown.collect() }
}

/// The shipped example: every key commented out, with its default and its meaning.
pub fn example(keys: Keys) -> String {
    let defaults = Settings::default();
    let mut out = String::from(
        "# Configuration of lastgood. A kubeadm node needs none: every key below is commented out and shows its \
         default.\n\
         # Fragments in config.d/*.toml next to this file are read after it, in lexical order; a later value wins.\n\
         # `lastgood config check` names every mistake, `lastgood config show` the effective values and where each \
         comes from.\n",
    );
    let mut table = "";
    for key in keys.iter() {
        let (of, name) = key.split();
        if of != table {
            let _ = write!(out, "\n[{of}]\n");
            table = of;
        }
        let mut meaning = key.meaning.to_owned();
        if let Some(first) = meaning.get(..1).map(str::to_uppercase) {
            meaning.replace_range(..1, &first);
        }
        let _ = match key.print(&defaults) {
            Some(value) => writeln!(out, "# {meaning}.\n#{name} = {value}"),
            None => writeln!(out, "# {meaning}; {} when absent.\n#{name} = {}", key.found(), key.sample()),
        };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::KEYS;
    use std::path::{Path, PathBuf};

    use crate::config::{Origin, load};

    fn in_tree(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
    }

    /// The shipped example with every key taken in.
    fn uncommented() -> String {
        let takes_in = |line: &str| match line.strip_prefix('#') {
            Some(key) if !key.starts_with(' ') => key.to_owned(),
            _ => line.to_owned(),
        };
        example(KEYS).lines().map(takes_in).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn every_field_of_the_settings_has_a_key() {
        let printed = format!("{:#?}", Settings::default());
        let leaves = printed.lines().filter(|line| line.contains(": ") && !line.ends_with('{'));
        // Where they come from is not set by anybody.
        let leaves = leaves.filter(|line| line.trim() != "files: [],").count();
        assert_eq!(
            leaves,
            KEYS.iter().count(),
            "a field of Settings without a key, or a key without a field:\n{printed}"
        );
    }

    #[test]
    fn every_key_reaches_a_field_of_its_own() {
        let mut seen: BTreeMap<String, &str> = BTreeMap::new();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.toml");
        for key in KEYS.iter() {
            let default = key.print(&Settings::default());
            let value = match default.as_deref() {
                Some("\"act\"") => "\"observe\"".to_owned(),
                Some("\"move-out\"" | "\"restart\"") => "\"report\"".to_owned(),
                Some("[]") if key.name == "notify.command" => "[\"/bin/true\"]".to_owned(),
                Some("[]") => "[\"age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p\"]".to_owned(),
                Some(list) if list.starts_with('[') => "[\"true\"]".to_owned(),
                Some(number) if number.parse::<u32>().is_ok() => "77".to_owned(),
                Some(path) if path.starts_with("\"/") => "\"/elsewhere\"".to_owned(),
                Some("true") => "false".to_owned(),
                Some("false") => "true".to_owned(),
                Some("\"10GB\"") => "\"3GiB\"".to_owned(),
                Some("\"100ms\"") => "\"90ms\"".to_owned(),
                Some("\"10s\"") => "\"11s\"".to_owned(),
                Some("\"10m\"") => "\"11m\"".to_owned(),
                Some(_) => "\"3s\"".to_owned(),
                None => key.sample().to_owned(),
            };
            std::fs::write(&file, format!("{} = {value}\n", key.name)).unwrap();
            let loaded = load(Some(&file), KEYS).unwrap_or_else(|error| panic!("{}: {error}", key.name));
            let unset = Settings { files: loaded.settings.files.clone(), ..Settings::default() };
            assert_ne!(loaded.settings, unset, "{} changes nothing", key.name);
            assert_eq!(key.print(&loaded.settings).as_deref(), Some(value.as_str()), "{}", key.name);
            let all = KEYS
                .iter()
                .map(|k| k.print(&loaded.settings))
                .zip(KEYS.iter())
                .filter(|(now, k)| *now != k.print(&Settings::default()));
            assert_eq!(all.count(), 1, "{} changes another key as well", key.name);
            assert!(seen.insert(key.name.to_owned(), key.name).is_none(), "{} is there twice", key.name);
        }
    }

    #[test]
    fn show_prints_toml_that_reads_back_with_origins() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.toml");
        std::fs::write(&file, "[candidate]\nsoak = \"90s\"\n").unwrap();
        let loaded = load(Some(&file), KEYS).unwrap();
        let shown = as_toml(&loaded);
        assert!(shown.contains(&format!("soak = \"90s\"  # {}:2\n", file.display())), "{shown}");
        assert!(shown.contains("unhealthy-grace = \"30s\"  # default\n"), "{shown}");
        assert!(shown.contains("# manifests: from the kubelet's configuration\n"), "{shown}");
        std::fs::write(&file, &shown).unwrap();
        assert_eq!(load(Some(&file), KEYS).unwrap().settings, loaded.settings);
        let shown = serde_json::to_value(for_machines(&loaded)).unwrap();
        assert_eq!(shown["keys"]["candidate.soak"]["value"], "90s");
        assert_eq!(shown["keys"]["candidate.soak"]["line"], 2);
        assert_eq!(shown["keys"]["limits.generations"]["value"], 5);
        assert_eq!(shown["keys"]["paths.manifests"]["value"], serde_json::Value::Null);
    }

    #[test]
    fn the_shipped_example_matches_the_defaults() {
        let shipped = std::fs::read_to_string(in_tree("packaging/config.toml")).unwrap();
        assert_eq!(shipped, example(KEYS), "write it again: cargo run -- config example > packaging/config.toml");
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.toml");
        std::fs::write(&file, example(KEYS)).unwrap();
        assert_eq!(load(Some(&file), KEYS).unwrap().origins, BTreeMap::<&str, Origin>::new());
        std::fs::write(&file, uncommented()).unwrap();
        let loaded = load(Some(&file), KEYS).unwrap();
        assert_eq!(loaded.origins.len(), KEYS.iter().count(), "the example lacks a key");
        for key in KEYS.iter().filter(|key| key.print(&Settings::default()).is_some()) {
            assert_eq!(key.print(&loaded.settings), key.print(&Settings::default()), "{}", key.name);
        }
    }

    /// The README names some keys, each in a row of its own.
    #[test]
    fn the_readme_shows_the_defaults() {
        let Ok(readme) = std::fs::read_to_string(in_tree("README.md")) else { return };
        let defaults = Settings::default();
        let mut shown = 0;
        for row in readme.lines().filter_map(|line| line.strip_prefix("| `")) {
            let Some(key) = KEYS.iter().find(|key| row.starts_with(&format!("{}`", key.name))) else { continue };
            let default = key.print(&defaults).map_or(key.found().to_owned(), |value| format!("`{value}`"));
            let cells: Vec<_> = row.split('|').map(str::trim).collect();
            assert_eq!(cells.get(1), Some(&default.as_str()), "README.md, {}", key.name);
            shown += 1;
        }
        assert!(shown >= 6, "README.md names {shown} keys");
    }
}
