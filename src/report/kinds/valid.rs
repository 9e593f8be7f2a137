//! Validates a document against a schema: the keywords that lastgood's schemas use. Stricter than JSON Schema, a field that
//! the schema does not name is an error.

use serde_json::{Map, Value};

/// What is wrong with a document, each with its place; nothing where it is valid.
pub(super) fn faults(schema: &Value, document: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    Check { root: schema, faults: &mut faults }.value(schema, document, "");
    faults
}

struct Check<'s, 'f> {
    root: &'s Value,
    faults: &'f mut Vec<String>,
}

impl<'s> Check<'s, '_> {
    fn fault(&mut self, place: &str, what: impl Into<String>) {
        self.faults.push(format!("{place}: {}", what.into()));
    }

    fn fits(&self, schema: &'s Value, value: &Value) -> bool {
        let mut faults = Vec::new();
        Check { root: self.root, faults: &mut faults }.value(schema, value, "");
        faults.is_empty()
    }

    fn value(&mut self, schema: &'s Value, value: &Value, place: &str) {
        let Value::Object(keywords) = schema else {
            if *schema != Value::Bool(true) {
                self.fault(place, "nothing is allowed here");
            }
            return;
        };
        if let Some(Value::String(reference)) = keywords.get("$ref") {
            match self.root.pointer(reference.trim_start_matches('#')) {
                Some(named) => self.value(named, value, place),
                None => self.fault(place, format!("no {reference}")),
            }
        }
        if keywords.get("const").is_some_and(|only| only != value) {
            self.fault(place, format!("{value} is not {}", keywords["const"]));
        }
        if let Some(Value::Array(all)) = keywords.get("enum")
            && !all.contains(value)
        {
            self.fault(place, format!("{value} is none of {all:?}"));
        }
        if let Some(types) = keywords.get("type") {
            let of = |name: &Value| name.as_str().is_some_and(|name| is_a(value, name));
            if !types.as_array().map_or_else(|| of(types), |any| any.iter().any(of)) {
                self.fault(place, format!("{value} is no {types}"));
            }
        }
        for keyword in ["oneOf", "anyOf"] {
            let Some(Value::Array(forms)) = keywords.get(keyword) else { continue };
            let fitting = forms.iter().filter(|form| self.fits(form, value)).count();
            if fitting == 0 || (keyword == "oneOf" && fitting > 1) {
                self.fault(place, format!("{value} fits {fitting} of the forms"));
            }
        }
        match value {
            Value::Object(fields) => self.fields(keywords, fields, place),
            Value::Array(items) => self.items(keywords, items, place),
            _ => {}
        }
    }

    fn fields(&mut self, keywords: &'s Map<String, Value>, fields: &Map<String, Value>, place: &str) {
        for name in keywords.get("required").and_then(Value::as_array).into_iter().flatten() {
            if name.as_str().is_none_or(|name| !fields.contains_key(name)) {
                self.fault(place, format!("{name} is missing"));
            }
        }
        // A reference or a choice names the fields itself.
        let patterns = keywords.get("patternProperties").and_then(|patterns| patterns.as_object()?.values().next());
        let other = keywords.get("additionalProperties").or(patterns);
        let named = keywords.get("properties").and_then(Value::as_object);
        if other.is_none() && named.is_none() {
            return;
        }
        for (name, value) in fields {
            let place = format!("{place}/{name}");
            match named.and_then(|named| named.get(name)).or(other) {
                Some(Value::Bool(false)) | None => self.fault(&place, "the schema does not name it"),
                Some(schema) => self.value(schema, value, &place),
            }
        }
    }

    fn items(&mut self, keywords: &'s Map<String, Value>, items: &[Value], place: &str) {
        let first = keywords.get("prefixItems").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        for (at, item) in items.iter().enumerate() {
            let place = format!("{place}/{at}");
            match first.get(at).or(keywords.get("items")) {
                Some(schema) => self.value(schema, item, &place),
                None if first.is_empty() => {}
                None => self.fault(&place, "the schema does not name it"),
            }
        }
    }
}

fn is_a(value: &Value, name: &str) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_document_that_is_not_as_its_schema_says_has_faults() {
        let schema = json!({
            "type": "object",
            "required": ["state"],
            "properties": {
                "state": {"$ref": "#/$defs/State"},
                "pid": {"type": ["integer", "null"]},
                "by": {"type": "object", "additionalProperties": {"type": "boolean"}},
                "pair": {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "integer"}]},
                "maybe": {"anyOf": [{"$ref": "#/$defs/State"}, {"type": "null"}]},
            },
            "$defs": {"State": {"oneOf": [{"const": "Steady"}, {"const": "Held"}]}},
        });
        let whole = json!({"state": "Held", "pid": null, "by": {"a": true}, "pair": [1, 2], "maybe": null});
        assert_eq!(faults(&schema, &whole), Vec::<String>::new());
        for (field, value) in [
            ("state", json!("Stuck")),
            ("pid", json!("812")),
            ("by", json!({"a": 1})),
            ("pair", json!([1, 2, 3])),
            ("maybe", json!(7)),
            ("more", json!(1)),
        ] {
            let mut document = whole.clone();
            document[field] = value;
            assert_eq!(faults(&schema, &document).len(), 1, "{document}");
        }
        assert_eq!(faults(&schema, &json!({})), [": \"state\" is missing"]);
    }
}
