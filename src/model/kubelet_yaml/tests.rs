//! Expected values are those that `sigs.k8s.io/yaml` 1.6 on `go.yaml.in/yaml/v2` 2.4.3 gave for the same bytes.

use super::*;

fn json(text: &str) -> Option<String> {
    to_json(text.as_bytes()).ok().map(|value| value.to_string())
}

#[test]
fn scalars_mean_what_they_mean_to_the_kubelet() {
    let rows: &[(&str, &str)] = &[
        ("yes", "true"),
        ("Y", "true"),
        ("on", "true"),
        ("OFF", "false"),
        ("n", "false"),
        ("yEs", r#""yEs""#),
        ("'yes'", r#""yes""#),
        ("!!str yes", r#""yes""#),
        ("! yes", r#""yes""#),
        ("!other yes", r#""yes""#),
        ("0644", "420"),
        ("0o644", "420"),
        ("0x1f", "31"),
        ("0b11", "3"),
        ("-0b11", "-3"),
        ("0b-11", "-3"),
        ("+12", "12"),
        ("08", "8"),
        ("1_000", "1000"),
        ("_1", r#""_1""#),
        ("1e3", "1000"),
        ("1e400", r#""1e400""#),
        (".5", "0.5"),
        ("1:30", r#""1:30""#),
        ("2001-01-01", r#""2001-01-01""#),
        ("18446744073709551615", "18446744073709551615"),
        ("~", "null"),
        ("", "null"),
        ("''", r#""""#),
        ("!!int \"5\"", "5"),
        ("!!float 5", "5"),
        ("!!binary aGk=", r#""hi""#),
        ("<<", r#""<<""#),
        ("a#b", r#""a#b""#),
        ("|\n  two\n  lines\n", r#""two\nlines\n""#),
        ("|\n  no end", r#""no end""#),
        (">-\n  one\n  line", r#""one line""#),
    ];
    for (text, expected) in rows {
        assert_eq!(json(&format!("k: {text}")).as_deref(), Some(format!(r#"{{"k":{expected}}}"#).as_str()), "{text}");
    }
}

#[test]
fn keys_are_text_and_merges_follow_the_order() {
    let rows: &[(&str, &str)] = &[
        ("{yes: a}", r#"{"true":"a"}"#),
        ("{5: a, 1.5: b, 0x10: c}", r#"{"1.5":"b","16":"c","5":"a"}"#),
        ("{1e6: a, 0.00001: b, 100000.0: c}", r#"{"100000":"c","1e+06":"a","1e-05":"b"}"#),
        ("{a: 1, a: 2}", r#"{"a":2}"#),
        ("{a: .inf, a: 2}", r#"{"a":2}"#),
        ("{a: 1, <<: {a: 2, b: 3}}", r#"{"a":2,"b":3}"#),
        ("{<<: {a: 2, b: 3}, a: 1}", r#"{"a":1,"b":3}"#),
        ("{<<: [{a: 1}, {a: 2, b: 3}]}", r#"{"a":1,"b":3}"#),
        ("{'<<': {a: 2}}", r#"{"<<":{"a":2}}"#),
        ("{a: &x {b: 1}, c: *x, d: {<<: *x}}", r#"{"a":{"b":1},"c":{"b":1},"d":{"b":1}}"#),
    ];
    for (text, expected) in rows {
        assert_eq!(json(&format!("--- {text}")).as_deref(), Some(*expected), "{text}");
    }
}

#[test]
fn what_the_kubelet_refuses_is_refused_and_why_is_told_apart() {
    use Undecodable::{Beyond, Refused, Syntax};
    let why = |text: &str| to_json(text.as_bytes()).err();
    for refused in
        ["a: .inf", "a: .nan", "{a: 1}: b", "~: a", "!!int x", "!!null x", "<<: x", "a: &x [*x]", "!!binary '?'"]
    {
        assert!(matches!(why(&format!("--- \n{refused}")), Some(Refused(_))), "{refused}: {:?}", why(refused));
    }
    for syntax in
        ["a: [", "a: *b", "a: 'b", "\ta: b", "a: b: c", "a: \u{7}", r#"a: "b\/c""#, "%YAML 1.2\n--- a", "{a: b}"]
    {
        assert!(matches!(why(syntax), Some(Syntax(_))), "{syntax}: {:?}", why(syntax));
    }
    for beyond in ["--- {a: b:}", "[!!str !, b]", "a: b\n---\n\u{7}"] {
        assert!(matches!(why(beyond), Some(Beyond(_))), "{beyond}: {:?}", why(beyond));
    }
    assert_eq!(
        json("a: 'b\\/c'\n"),
        Some(r#"{"a":"b\\/c"}"#.to_owned()),
        "a slash is only escaped within double quotes"
    );
    let lines = format!("a: &a [{}]\n", "x, ".repeat(9))
        + &(1..7)
            .map(|n| {
                let (name, before) = ((b'a' + n) as char, (b'a' + n - 1) as char);
                format!("{name}: &{name} [{}]\n", format!("*{before}, ").repeat(9))
            })
            .collect::<String>();
    assert!(matches!(why(&lines), Some(Refused(_))), "most of a document is repetition");
}

#[test]
fn each_mistake_is_named_with_its_line() {
    let rows = [
        ("kind: Pod\na: [", 3),
        ("kind: Pod\na: *b", 2),
        ("kind: Pod\n\ta: b", 2),
        ("kind: Pod\na: b: c", 2),
        ("kind: Pod\na: \u{7}", 2),
        ("kind: Pod\na: \"b\\/c\"", 2),
        ("# first\n%YAML 1.2\n--- a", 2),
        ("kind: Pod\na: .inf", 2),
        ("kind: Pod\na:\n- 1\n- .nan", 4),
        ("kind: Pod\n? {a: 1}\n: b", 2),
        ("kind: Pod\n~: a", 2),
        ("kind: Pod\na: !!int x", 2),
        ("kind: Pod\n!!int x: a", 2),
        ("kind: Pod\n<<: x", 2),
        ("kind: Pod\na: &x\n- *x", 3),
        ("kind: Pod\na: !!binary '?'", 2),
        ("{\"kind\": \"Pod\",\n a: b}", 2),
        ("kind: Pod\na: {b: c:}", 2),
    ];
    for (text, line) in rows {
        let why = match to_json(text.as_bytes()).unwrap_err() {
            Undecodable::Syntax(why) | Undecodable::Refused(why) | Undecodable::Beyond(why) => why,
        };
        let named = why.split("line ").skip(1).any(|rest| rest.starts_with(&format!("{line}")));
        assert!(named, "{text}: {why}");
    }
}

#[test]
fn encodings_are_those_of_the_byte_order_mark() {
    let units = |unit: fn(u16) -> [u8; 2], text: &str| text.encode_utf16().flat_map(unit).collect::<Vec<u8>>();
    let text = "a: é😀\r\nb: yes\r\n";
    let expected = serde_json::json!({"a": "é😀", "b": true});
    for bytes in [
        text.as_bytes().to_vec(),
        [b"\xef\xbb\xbf", text.as_bytes()].concat(),
        [vec![0xff, 0xfe], units(u16::to_le_bytes, text)].concat(),
        [vec![0xfe, 0xff], units(u16::to_be_bytes, text)].concat(),
    ] {
        assert_eq!(to_json(&bytes), Ok(expected.clone()), "{bytes:?}");
    }
    assert!(to_json(&[&[0xff, 0xfe][..], &[0x3d, 0xd8]].concat()).is_err(), "half a character");
    assert_eq!(to_json(b"\xef\xbb\xbf{a: yes}"), Ok(serde_json::json!({"a": true})), "the mark makes it YAML");
}

#[test]
fn no_document_is_null() {
    for text in ["", "\n\n", "# a comment\n", "---\n", "~", "--- # nothing\n---\na: b\n"] {
        assert_eq!(to_json(text.as_bytes()), Ok(Value::Null), "{text:?}");
    }
}

#[test]
fn a_null_is_nothing_in_a_field_and_an_empty_value_in_a_list() {
    let document = to_json(
        b"metadata: {name: x, labels: {a: ~}, annotations: ~}\nspec:\n  nodeName: ~\n  containers:\n  - \n  - \
          {args: [a, ~], resources: {limits: {cpu: 2, memory: 0.5}}}\n",
    );
    let pod = fit(&document.unwrap()).unwrap();
    let spec = pod.spec.unwrap();
    assert_eq!(pod.metadata.labels.unwrap()["a"], "");
    assert_eq!((pod.metadata.annotations, spec.node_name), (None, None));
    assert_eq!(spec.containers[0].name, "");
    assert_eq!(spec.containers[1].args.as_deref(), Some(&["a".to_owned(), String::new()][..]));
    let limits = spec.containers[1].resources.as_ref().and_then(|resources| resources.limits.clone()).unwrap();
    assert_eq!((limits["cpu"].0.as_str(), limits["memory"].0.as_str()), ("2", "0.5"));
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "[-a:{}\\[\\]!&*|>'\"%#,?~ \n\t0<\\\\/.é]{0,40}") {
        let _ = to_json(text.as_bytes());
    }
}
