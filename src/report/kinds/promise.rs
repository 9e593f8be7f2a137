//! Whether a schema keeps what another one promised: everything that a reader may rely on is one fact, and no fact may go.

use std::collections::BTreeSet;

use serde_json::Value;

/// How a new schema compares to the one that was shipped.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Promise {
    /// Every fact still holds; there may be new ones.
    Kept,
    /// These hold no more.
    Broken(Vec<String>),
}

pub(super) fn compare(shipped: &Value, new: &Value) -> Promise {
    let (shipped, new) = (facts(shipped), facts(new));
    let gone: Vec<String> = shipped.difference(&new).cloned().collect();
    if gone.is_empty() { Promise::Kept } else { Promise::Broken(gone) }
}

fn facts(schema: &Value) -> BTreeSet<String> {
    let mut facts = BTreeSet::new();
    collect(schema, "", &mut facts);
    facts
}

fn collect(schema: &Value, place: &str, facts: &mut BTreeSet<String>) {
    let Value::Object(keywords) = schema else {
        facts.insert(format!("{place}: {schema}"));
        return;
    };
    for (keyword, value) in keywords {
        match (keyword.as_str(), value) {
            // Words for people, and a value that stands where none is given.
            ("$schema" | "title" | "description" | "default", _) => {}
            ("properties" | "$defs" | "patternProperties", Value::Object(named)) => {
                for (name, below) in named {
                    facts.insert(format!("{place}/{name} exists"));
                    collect(below, &format!("{place}/{name}"), facts);
                }
            }
            ("required" | "enum", Value::Array(all)) => {
                facts.extend(all.iter().map(|one| format!("{place}: {keyword} {one}")));
            }
            // In any order, and known by what tells them apart.
            ("oneOf" | "anyOf", Value::Array(all)) => {
                for one in all {
                    collect(one, &format!("{place}<{}>", name_of(one)), facts);
                }
            }
            (_, Value::Object(_)) => collect(value, &format!("{place}/{keyword}"), facts),
            ("prefixItems", Value::Array(all)) => {
                all.iter().enumerate().for_each(|(at, one)| collect(one, &format!("{place}/{at}"), facts));
            }
            _ => {
                facts.insert(format!("{place}: {keyword} {value}"));
            }
        }
    }
}

/// What tells one of several forms from the others: a constant in it, what it refers to, or its type.
fn name_of(form: &Value) -> String {
    if let Some(own) = form.get("const").or(form.get("$ref")) {
        return own.to_string();
    }
    let fields = form["properties"].as_object().into_iter().flatten();
    let mut constants = fields.filter_map(|(name, field)| Some(format!("{name} {}", field.get("const")?)));
    constants.next().or(form["required"].as_array().map(|all| format!("{all:?}"))).unwrap_or(form["type"].to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shipped() -> Value {
        json!({
            "type": "object",
            "description": "old words",
            "required": ["state", "is"],
            "properties": {
                "state": {"type": "string", "enum": ["Steady", "Held"]},
                "mode": {"oneOf": [{"const": "act", "description": "it acts"}, {"const": "observe"}]},
                "is": {"oneOf": [{"properties": {"is": {"const": "running"}, "pid": {"type": "integer"}}}]},
                "pair": {"type": "array", "prefixItems": [{"type": "integer"}]},
            },
        })
    }

    /// What is broken by a change at this place.
    fn broken(pointer: &str, value: Value) -> Vec<String> {
        let mut new = shipped();
        *new.pointer_mut(pointer).unwrap() = value;
        match compare(&shipped(), &new) {
            Promise::Broken(gone) => gone,
            Promise::Kept => Vec::new(),
        }
    }

    #[test]
    fn what_is_added_or_only_worded_anew_breaks_nothing() {
        assert_eq!(broken("/description", json!("new words")), Vec::<String>::new());
        assert_eq!(broken("/required", json!(["is", "state", "more"])), Vec::<String>::new());
        assert_eq!(broken("/properties/state/enum", json!(["Held", "Missing", "Steady"])), Vec::<String>::new());
        let modes = json!([{"const": "observe"}, {"const": "plan"}, {"const": "act"}]);
        assert_eq!(broken("/properties/mode/oneOf", modes), Vec::<String>::new());
    }

    #[test]
    fn what_goes_or_changes_is_named() {
        for (pointer, value, fact) in [
            ("/required", json!(["is"]), ": required \"state\""),
            ("/properties/state/enum", json!(["Steady", "Stuck"]), "/state: enum \"Held\""),
            ("/properties/state/type", json!(["string", "null"]), "/state: type \"string\""),
            ("/properties/mode/oneOf", json!([{"const": "act"}]), "/mode<\"observe\">: const \"observe\""),
            ("/properties/is/oneOf/0/properties/is/const", json!("runs"), "/is<is \"running\">/is: const \"running\""),
            (
                "/properties/is/oneOf/0/properties/pid/type",
                json!("string"),
                "/is<is \"running\">/pid: type \"integer\"",
            ),
            ("/properties/pair/prefixItems/0/type", json!("string"), "/pair/0: type \"integer\""),
        ] {
            let gone = broken(pointer, value);
            assert!(gone.iter().any(|gone| gone == fact), "{pointer}: {gone:?}");
        }
        let mut new = shipped();
        new["properties"].as_object_mut().unwrap().remove("pair");
        let Promise::Broken(gone) = compare(&shipped(), &new) else { panic!("a field went") };
        assert!(gone.contains(&"/pair exists".to_owned()), "{gone:?}");
    }
}
