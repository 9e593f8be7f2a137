//! What a scalar means: the words and numbers of YAML 1.1, as `resolve` in the kubelet's YAML package reads them.

use base64::Engine as _;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use serde_json::{Number, Value};

/// A resolved scalar. Infinities and NaN are numbers to YAML, and nothing to JSON.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Scalar {
    Null,
    Bool(bool),
    Int(i64),
    /// A whole number beyond `i64`, which as a key is refused.
    Big(u64),
    Float(f64),
    Text(String),
}

const PREFIX: &str = "tag:yaml.org,2002:";

/// Resolves a scalar by its tag and, where it may have any meaning (`implicit`), by its looks.
pub(super) fn resolve(tag: Option<&str>, value: &str, implicit: bool) -> Result<Scalar, String> {
    let text = || Scalar::Text(value.to_owned());
    let tag = match tag {
        None if !implicit => return Ok(text()),
        None => return Ok(by_looks(value)),
        Some(tag) => tag.strip_prefix(PREFIX).unwrap_or(tag),
    };
    let refused = |as_what: &str| format!("cannot decode `{value}` as a !!{as_what}");
    match (tag, by_looks(value)) {
        ("str", _) => Ok(text()),
        ("binary", _) => binary(value),
        ("bool", it @ Scalar::Bool(_)) => Ok(it),
        ("int", it @ (Scalar::Int(_) | Scalar::Big(_))) => Ok(it),
        ("float", Scalar::Int(whole)) => Ok(Scalar::Float(whole as f64)),
        ("float", it @ Scalar::Float(_)) => Ok(it),
        ("null", Scalar::Null) => Ok(Scalar::Null),
        // A time is text where no time is expected.
        ("timestamp", Scalar::Text(_)) if is_dated(value) => Ok(text()),
        ("bool" | "int" | "float" | "null" | "timestamp", _) => Err(refused(tag)),
        // A tag that nobody knows changes nothing.
        _ => Ok(text()),
    }
}

fn by_looks(value: &str) -> Scalar {
    match value {
        "" | "~" | "null" | "Null" | "NULL" => return Scalar::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => return Scalar::Bool(true),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Scalar::Bool(false);
        }
        ".nan" | ".NaN" | ".NAN" => return Scalar::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Scalar::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Scalar::Float(f64::NEG_INFINITY),
        _ => {}
    }
    let number = match value.as_bytes().first() {
        Some(b'.') => float(value),
        Some(b'0'..=b'9' | b'+' | b'-') => {
            let plain = value.replace('_', "");
            whole(&plain).or_else(|| float(&plain)).or_else(|| odd_binary(&plain))
        }
        _ => None,
    };
    number.unwrap_or_else(|| Scalar::Text(value.to_owned()))
}

/// A whole number with the prefixes of Go: `0x`, `0o`, `0b`, and a bare 0 for octal.
fn whole(plain: &str) -> Option<Scalar> {
    let (sign, digits) = match plain.as_bytes().first()? {
        b'-' => ("-", &plain[1..]),
        b'+' => ("", &plain[1..]),
        _ => ("", plain),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    if !digits.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return None;
    }
    if let Ok(number) = i64::from_str_radix(&format!("{sign}{digits}"), radix) {
        return Some(Scalar::Int(number));
    }
    // The kubelet's parser takes no sign here.
    let signed = plain.starts_with(['-', '+']);
    u64::from_str_radix(digits, radix).ok().filter(|_| !signed).map(Scalar::Big)
}

/// `0b-11` and its like, a quirk of that parser: digits of base 2 with a sign of their own behind the prefix.
fn odd_binary(plain: &str) -> Option<Scalar> {
    let (sign, digits) = match plain.strip_prefix("0b") {
        Some(digits) => ("", digits),
        None => ("-", plain.strip_prefix("-0b")?),
    };
    let number = i64::from_str_radix(&format!("{sign}{digits}"), 2).ok()?;
    Some(Scalar::Int(number))
}

fn float(plain: &str) -> Option<Scalar> {
    let unsigned = plain.strip_prefix(['+', '-']).unwrap_or(plain);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let (before, behind) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent_is_one = exponent.is_none_or(|exponent| {
        let bare = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        !bare.is_empty() && digits(bare)
    });
    if !digits(before) || !digits(behind) || (before.is_empty() && behind.is_empty()) || !exponent_is_one {
        return None;
    }
    // One too large for a float stays text.
    plain.parse::<f64>().ok().filter(|number| number.is_finite()).map(Scalar::Float)
}

fn binary(value: &str) -> Result<Scalar, String> {
    let lenient = GeneralPurpose::new(
        &base64::alphabet::STANDARD,
        GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
    );
    let bytes = lenient.decode(value.replace(['\n', '\r'], ""));
    let bytes = bytes.map_err(|_| "a !!binary value holds no base64".to_owned())?;
    Ok(Scalar::Text(String::from_utf8_lossy(&bytes).into_owned()))
}

/// Whether text begins as a date does. What follows we do not check: nothing in a Pod is tagged so.
fn is_dated(value: &str) -> bool {
    value.len() > 5 && value.as_bytes()[..4].iter().all(u8::is_ascii_digit) && value.as_bytes()[4] == b'-'
}

impl Scalar {
    /// The JSON value. One that JSON has no word for makes the kubelet refuse the whole file.
    pub(super) fn to_json(&self) -> Result<Value, String> {
        Ok(match self {
            Self::Null => Value::Null,
            Self::Bool(it) => Value::Bool(*it),
            Self::Int(it) => Value::from(*it),
            Self::Big(it) => Value::from(*it),
            Self::Float(it) => Value::Number(number(*it).ok_or("a number that JSON does not have (.inf or .nan)")?),
            Self::Text(it) => Value::String(it.clone()),
        })
    }

    /// The name that a key has in JSON.
    pub(super) fn to_key(&self) -> Result<String, String> {
        Ok(match self {
            Self::Text(it) => it.clone(),
            Self::Bool(it) => it.to_string(),
            Self::Int(it) => it.to_string(),
            Self::Float(it) => short_float(*it),
            Self::Null => return Err("a key that is null".to_owned()),
            Self::Big(it) => return Err(format!("the key {it}, which is too large a number")),
        })
    }
}

/// Go writes a whole float below 1e21 as a whole number, so that `1e3` fits a field for integers.
fn number(it: f64) -> Option<Number> {
    const EXACT: f64 = 9.2e18;
    if it.fract() == 0.0 && it.abs() < EXACT {
        return Some(Number::from(it as i64));
    }
    Number::from_f64(it)
}

/// A float as Go's `%g` of 32 bits writes it.
fn short_float(it: f64) -> String {
    if it.is_nan() {
        return ".nan".to_owned();
    }
    if it.is_infinite() || (it as f32).is_infinite() {
        return if it > 0.0 { ".inf" } else { "-.inf" }.to_owned();
    }
    let scientific = format!("{:e}", it as f32);
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    match exponent.parse::<i32>().unwrap_or(0) {
        exponent if (-4..6).contains(&exponent) => (it as f32).to_string(),
        exponent => format!("{mantissa}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs()),
    }
}
