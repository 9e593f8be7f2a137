//! The texts that an operator or a developer reads first, held against tests/words.txt: string literals and help texts of
//! the program, headers of its modules, documents and packaging.
//!
//! ```text
//!   lib.rs, main.rs ──mod──▶ files ──tokens──▶ string literals, /// of what clap derives from ─┐
//!   src/**/*.rs ─────────────────────────────▶ //! at the top ─────────────────────────────────┼─▶ words ─▶ listed?
//!   README, man pages, catalog, config, CHANGELOG ─────────────────────────────────────────────┘
//! ```
//!
//! Tests, and what only tests use, are free.

use std::path::Path;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use super::{files, read, root, rust_files};

/// The list: one word or phrase a line, with the better one behind a `#`.
const LIST: &str = "tests/words.txt";

/// What an item with generics begins with.
const ITEMS: [&str; 6] = ["enum", "fn", "impl", "struct", "trait", "type"];

/// What clap derives from: the doc comments of such an item are its help text.
const CLAP: [&str; 4] = ["Args", "Parser", "Subcommand", "ValueEnum"];

const DOCUMENTS: [&str; 6] = [
    "README.md",
    "packaging/CHANGELOG.md",
    "packaging/config.toml",
    "packaging/lastgood.catalog",
    "systemd/lastgood.service",
    "systemd/lastgood-gate.service",
];

/// Where the man pages are that are written by hand; the others are made from the help texts and the configuration keys.
const MAN: &str = "packaging/man/";

/// A piece of text, and the line of its file that it begins on.
struct Text {
    line: usize,
    text: String,
}

/// A phrase that is not used, as its words in lower case, and what to write instead.
struct Phrase {
    words: Vec<String>,
    better: String,
}

fn listed() -> Vec<Phrase> {
    let list = read(LIST);
    let entries = list.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    let phrases = entries.map(|line| {
        let (phrase, better) = line.split_once('#').expect("every word has a better one behind a #");
        Phrase { words: phrase.split_whitespace().map(str::to_owned).collect(), better: better.trim().to_owned() }
    });
    phrases.collect()
}

/// A line without what is between two marks: a piece of code, or a value that is put in.
fn without(line: &str, open: char, close: char) -> String {
    let Some((before, rest)) = line.split_once(open) else { return line.to_owned() };
    match rest.split_once(close) {
        Some((_, after)) => format!("{before}_{}", without(after, open, close)),
        None => line.to_owned(),
    }
}

/// The words of a text in lower case, each with its line, and whether a sentence or clause ends behind it.
fn words(text: &Text) -> Vec<(usize, String, bool)> {
    let mut found = Vec::new();
    for (offset, line) in text.text.split('\n').enumerate() {
        let line = without(&without(line, '`', '`'), '{', '}');
        for word in line.split_whitespace() {
            let bare = word.trim_matches(|c: char| !c.is_alphanumeric() && c != '_');
            if !bare.is_empty() {
                found.push((text.line + offset, bare.to_lowercase(), word.ends_with(['.', ',', ';', ':', '!', '?'])));
            }
        }
    }
    found
}

/// Every listed phrase in a text, with its line.
fn hits(text: &Text, phrases: &[Phrase]) -> Vec<String> {
    let words = words(text);
    let mut found = Vec::new();
    for (at, (line, _, _)) in words.iter().enumerate() {
        for phrase in phrases {
            let Some(here) = words.get(at..at + phrase.words.len()) else { continue };
            let same = here.iter().zip(&phrase.words).all(|((_, word, _), wanted)| word == wanted);
            let whole = here[..here.len() - 1].iter().all(|(_, _, ends)| !ends);
            if same && whole {
                found.push(format!("{line}: \"{}\": {}", phrase.words.join(" "), phrase.better));
            }
        }
    }
    found
}

/// Every string literal in a tree of tokens.
fn literals(tokens: TokenStream, texts: &mut Vec<Text>) {
    for token in tokens {
        match token {
            TokenTree::Group(group) => literals(group.stream(), texts),
            TokenTree::Literal(literal) => {
                let written = literal.to_string();
                if written.starts_with(['"', 'r', 'b']) {
                    // A line that is continued is still a line of the file; an escaped one is not.
                    let text = written.replace("\\n", "  ").replace("\\\n", " \n");
                    texts.push(Text { line: 0, text });
                }
            }
            TokenTree::Ident(_) | TokenTree::Punct(_) => {}
        }
    }
}

/// What comes before an item, a field or a variant.
#[derive(Default)]
struct Attributes {
    /// `#[cfg(test)]`, alone or as one of what `all(…)` asks for.
    is_test: bool,
    is_help: bool,
    /// It is an item, in whose generics a comma ends nothing.
    is_item: bool,
    docs: Vec<Text>,
}

impl Attributes {
    fn read(&mut self, attribute: TokenStream, texts: &mut Vec<Text>) {
        let written: String = attribute.to_string().split_whitespace().collect();
        if written.starts_with("doc=") {
            literals(attribute, &mut self.docs);
        } else {
            self.is_test |= written == "test" || ["cfg(test)", "cfg(all(test"].iter().any(|is| written.starts_with(is));
            self.is_help |= written.starts_with("derive(")
                && written.split(|c: char| !c.is_alphanumeric()).any(|name| CLAP.contains(&name));
            // Names in files stay until their format changes.
            if !written.starts_with("serde(") {
                literals(attribute, texts);
            }
        }
        if self.is_help {
            texts.append(&mut self.docs);
        }
    }
}

/// The texts of one file, and the child modules that it names, tests aside.
#[derive(Default)]
struct Source {
    texts: Vec<Text>,
    modules: Vec<String>,
}

impl Source {
    fn read(&mut self, tokens: TokenStream, is_help: bool) {
        let tokens: Vec<_> = tokens.into_iter().collect();
        let mut before = Attributes { is_help, ..Attributes::default() };
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            at += 1;
            match (token, &tokens[at..]) {
                (TokenTree::Punct(hash), [TokenTree::Group(attribute), ..]) if hash.as_char() == '#' => {
                    before.read(attribute.stream(), &mut self.texts);
                    at += 1;
                }
                // Of the file or module itself: no text, or a header, which is read as lines.
                (TokenTree::Punct(hash), [TokenTree::Punct(_), TokenTree::Group(_), ..]) if hash.as_char() == '#' => {
                    at += 2
                }
                (TokenTree::Ident(word), [TokenTree::Ident(name), TokenTree::Punct(end), ..])
                    if word == "mod" && end.as_char() == ';' && !before.is_test =>
                {
                    self.modules.push(name.to_string());
                }
                (TokenTree::Group(group), _) => {
                    if !before.is_test {
                        self.read(group.stream(), before.is_help);
                    }
                    if group.delimiter() == Delimiter::Brace {
                        before = Attributes { is_help, ..Attributes::default() };
                    }
                }
                (TokenTree::Ident(word), _) if ITEMS.iter().any(|item| word == item) => before.is_item = true,
                (TokenTree::Punct(end), _) if end.as_char() == ';' || (end.as_char() == ',' && !before.is_item) => {
                    before = Attributes { is_help, ..Attributes::default() };
                }
                (TokenTree::Literal(_), _) if !before.is_test => literals(token.clone().into(), &mut self.texts),
                _ => {}
            }
        }
    }
}

/// The texts of a file, each with its line. Spans have lines only by a feature of proc-macro2 that makes every derive macro
/// of the tree be built twice, so the text is looked up: behind the one before, or from the top.
fn placed(code: &str, texts: Vec<Text>) -> Vec<Text> {
    let mut behind = 0;
    let place = |Text { text, .. }: Text| {
        let first = text.lines().next().unwrap_or_default();
        let needle =
            first.trim_start_matches(['b', 'r', '#', '"']).trim_end_matches(['"', '#', ' ', '\\']).trim_start();
        let needle = needle.split("  ").next().unwrap_or_default();
        let found = code[behind..].find(needle).map(|at| behind + at).or_else(|| code.find(needle));
        behind = found.unwrap_or(behind);
        Text { line: code[..behind].matches('\n').count() + 1, text }
    };
    texts.into_iter().map(place).collect()
}

/// The texts of a file of the program and of its child modules, each with the name of its file.
fn program(file: &str, children: &Path, texts: &mut Vec<(String, Text)>) {
    let mut source = Source::default();
    let code = read(file);
    source.read(code.parse().expect(file), false);
    texts.extend(placed(&code, source.texts).into_iter().map(|text| (file.to_owned(), text)));
    for name in source.modules {
        let below = children.join(&name);
        let flat = children.join(format!("{name}.rs"));
        let path = if root().join(&flat).exists() { flat } else { below.join("mod.rs") };
        program(path.to_str().expect("names are UTF-8"), &below, texts);
    }
}

/// The header of a module, without the tests that src/rules.rs lists.
fn header(text: &str) -> Text {
    let lines = text.lines().map_while(|line| line.strip_prefix("//!"));
    let lines: Vec<_> = lines.map(|line| if line.starts_with(" * `") { "" } else { line }).collect();
    Text { line: 1, text: lines.join("\n") }
}

fn texts() -> Vec<(String, Text)> {
    let mut texts = Vec::new();
    for file in ["src/lib.rs", "src/main.rs"] {
        program(file, Path::new("src"), &mut texts);
    }
    let modules = rust_files().filter(|(file, _)| file.starts_with("src/"));
    texts.extend(modules.map(|(file, text)| (file, header(&text))));
    let documents = files().into_iter().filter(|file| DOCUMENTS.contains(&file.as_str()) || file.starts_with(MAN));
    texts.extend(documents.map(|file| {
        let text = read(&file);
        (file, Text { line: 1, text })
    }));
    texts
}

#[test]
fn texts_are_in_plain_technical_english() {
    let phrases = listed();
    let texts = texts();
    let found: Vec<_> = texts
        .iter()
        .flat_map(|(file, text)| hits(text, &phrases).into_iter().map(move |hit| format!("{file}:{hit}")))
        .collect();
    assert!(found.is_empty(), "{} words of {LIST}:\n{}", found.len(), found.join("\n"));
}

#[test]
fn texts_are_found_where_they_are_shown() {
    let mut source = Source::default();
    let code = r##"
        //! in vain, of the module
        /// in vain, of the function
        fn f() { warn!(name, "one\n{}", g("two \
            three")); }
        /// in vain, of nothing
        #[derive(Debug)]
        struct Plain;
        /// help
        #[derive(Debug, clap::Args)]
        struct Asked {
            /// of a field
            #[arg(help = "given")]
            field: (),
        }
        #[cfg(test)]
        fn only<A, B>() { "in vain, of a test" }
        #[cfg(test)]
        mod tests;
        mod child;
    "##;
    source.read(code.parse().expect("Rust"), false);
    let texts: Vec<_> =
        placed(code, source.texts).iter().flat_map(words).map(|(line, word, _)| format!("{line} {word}")).collect();
    assert_eq!(texts, ["4 one", "4 _", "4 two", "5 three", "9 help", "12 of", "12 a", "12 field", "13 given"]);
    assert_eq!(source.modules, ["child"]);
}

#[test]
fn phrases_are_found_as_whole_words() {
    let phrases = [Phrase { words: vec!["in".to_owned(), "vain".to_owned()], better: "failed".to_owned() }];
    let found = |text: &str| hits(&Text { line: 7, text: text.to_owned() }, &phrases);
    assert_eq!(found("Tried\nin\nvain."), ["8: \"in vain\": failed"]);
    assert_eq!(found("(In vain), `x`"), ["7: \"in vain\": failed"]);
    for other in ["in. Vain", "in vainness", "in_vain", "in-vain", "plain in, vain", "in {other} vain", "`in vain`"] {
        assert_eq!(found(other), [""; 0], "{other}");
    }
}
