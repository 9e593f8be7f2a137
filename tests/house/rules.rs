//! `src/rules.rs` held against the tests and the citations of the tree.

use std::collections::{BTreeMap, BTreeSet};

use super::{read, rust_files};

/// Where the rules are defined.
const DEFINED: &str = "src/rules.rs";

/// Rules that are defined and not fulfilled everywhere yet. None other may be marked so.
const MAY_BE_PENDING: [&str; 0] = [];

/// What `src/rules.rs` says of one rule.
#[derive(Default)]
struct Rule {
    pending: bool,
    tests: BTreeSet<String>,
}

fn defined() -> BTreeMap<String, Rule> {
    let mut rules: BTreeMap<String, Rule> = BTreeMap::new();
    let mut last = None;
    for line in read(DEFINED).lines() {
        if let Some(heading) = line.strip_prefix("//! ## ") {
            let words: Vec<_> = heading.split(' ').collect();
            let length = if words[0] == "Never" { 2 } else { 1 };
            let id = words[..length].join(" ");
            let rule = Rule { pending: heading.ends_with("(pending)"), tests: BTreeSet::new() };
            assert!(rules.insert(id.clone(), rule).is_none(), "{id} is defined twice");
            last = Some(id);
        } else if let Some(test) = line.strip_prefix("//! * `").and_then(|rest| rest.strip_suffix('`')) {
            let rule = last.as_ref().and_then(|id| rules.get_mut(id)).expect("a test follows the rule that it shows");
            rule.tests.insert(test.to_owned());
        }
    }
    rules
}

/// The rules that the name of a test begins with.
fn rules_of(test: &str) -> Vec<String> {
    let mut words = test.split('_').peekable();
    let mut rules = Vec::new();
    while let Some(word) = words.next() {
        let number = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
        if word == "never" {
            while let Some(count) = words.next_if(|word| number(word)) {
                rules.push(format!("Never {count}"));
            }
        } else if word.starts_with(['q', 'r', 's', 't', 'n']) && number(&word[1..]) {
            rules.push(word.to_uppercase());
        } else {
            break;
        }
    }
    rules
}

/// The names of all functions, with the file that has each.
fn functions() -> impl Iterator<Item = (String, String)> {
    rust_files().flat_map(|(file, text)| {
        let names = text.split("fn ").skip(1).map(|rest| {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            rest[..end].to_owned()
        });
        names.map(|name| (name, file.clone())).collect::<Vec<_>>()
    })
}

/// The rules that a line of comment cites.
fn cited(comment: &str) -> Vec<String> {
    let words: Vec<_> = comment.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|w| !w.is_empty()).collect();
    let number = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    let mut rules = Vec::new();
    for (at, word) in words.iter().enumerate() {
        match words.get(at + 1) {
            Some(next) if *word == "Never" && number(next) => rules.push(format!("Never {next}")),
            _ if word.starts_with(['Q', 'R', 'T', 'N']) && number(&word[1..]) => rules.push((*word).to_owned()),
            _ => {}
        }
    }
    rules
}

#[test]
fn every_rule_lists_its_tests_and_has_one() {
    let rules = defined();
    let mut shown: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (test, file) in functions() {
        for rule in rules_of(&test) {
            assert!(rules.contains_key(&rule), "{file}: {test} shows {rule}, which {DEFINED} does not define");
            shown.entry(rule).or_default().insert(test.clone());
        }
    }
    for (id, rule) in &rules {
        let tests = shown.remove(id).unwrap_or_default();
        assert!(rule.pending || !tests.is_empty(), "no test shows {id}");
        assert!(!rule.pending || MAY_BE_PENDING.contains(&id.as_str()), "{id} must not be pending");
        let unlisted: Vec<_> = tests.difference(&rule.tests).map(|test| format!("//! * `{test}`")).collect();
        assert!(unlisted.is_empty(), "{DEFINED} lacks under {id}:\n{}", unlisted.join("\n"));
        let gone: Vec<_> = rule.tests.difference(&tests).collect();
        assert!(gone.is_empty(), "{DEFINED} lists under {id} what no test is called: {gone:?}");
    }
}

#[test]
fn every_citation_is_of_a_rule() {
    let rules = defined();
    for (file, text) in rust_files().filter(|(file, _)| file != DEFINED) {
        for (number, line) in text.lines().enumerate() {
            let Some((_, comment)) = line.split_once("//") else { continue };
            for rule in cited(comment) {
                assert!(rules.contains_key(&rule), "{file}:{}: {rule} is not defined in {DEFINED}", number + 1);
            }
        }
    }
}

#[test]
fn names_and_citations_are_read_as_they_are_meant() {
    assert_eq!(rules_of("never_1_7_q11_killed_anywhere"), ["Never 1", "Never 7", "Q11"]);
    assert_eq!(rules_of("t22_r9_an_etcd_3_5_goes_back"), ["T22", "R9"]);
    assert_eq!(rules_of("nothing_is_lost"), [""; 0]);
    assert_eq!(cited("as Q1 says (Never 6), not QA1 nor T-4, but N20."), ["Q1", "Never 6", "N20"]);
}
