//! The forms of names and quantities, and the kubelet's sentences about those that have another
//! (`k8s.io/apimachinery/pkg/util/validation`, `pkg/api/resource`).

type Faults = Vec<String>;

fn longer_than(value: &str, most: usize) -> Option<String> {
    (value.len() > most).then(|| format!("must be no more than {most} characters"))
}

fn is_label(value: &str) -> bool {
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = value.as_bytes();
    bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
        && edge(bytes.first())
        && edge(bytes.last())
}

/// RFC 1123 label: a container, a volume, a namespace.
pub(super) fn dns_label(value: &str) -> Faults {
    let mut faults: Faults = longer_than(value, 63).into_iter().collect();
    if value.contains('.') && dns_subdomain(value).is_empty() {
        faults.push("must not contain dots".to_owned());
    } else if value.contains('.') || !is_label(value) {
        faults.push(
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end \
             with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
             '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
                .to_owned(),
        );
    }
    faults
}

/// RFC 1123 subdomain: an object of the API server.
pub(super) fn dns_subdomain(value: &str) -> Faults {
    let mut faults: Faults = longer_than(value, 253).into_iter().collect();
    if !value.split('.').all(is_label) {
        faults.push(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start \
             and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
             '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
                .to_owned(),
        );
    }
    faults
}

fn is_label_text(value: &str) -> bool {
    let inner = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = value.as_bytes();
    bytes.iter().all(inner) && edge(bytes.first()) && edge(bytes.last())
}

const LABEL_TEXT: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
                          alphanumeric character";

/// The key of a label, an annotation, a resource.
pub(super) fn qualified_name(value: &str) -> Faults {
    let mut faults = Faults::new();
    let name = match value.split('/').collect::<Vec<_>>()[..] {
        [name] => name,
        ["", name] => {
            faults.push("prefix part must be non-empty".to_owned());
            name
        }
        [prefix, name] => {
            faults.extend(dns_subdomain(prefix).into_iter().map(|why| format!("prefix part {why}")));
            name
        }
        _ => {
            return vec![format!(
                "a valid label key {LABEL_TEXT} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    if name.is_empty() {
        faults.push("name part must be non-empty".to_owned());
    } else if name.len() > 63 {
        faults.push("name part must be no more than 63 characters".to_owned());
    }
    if !is_label_text(name) {
        faults.push(format!("name part {LABEL_TEXT}"));
    }
    faults
}

/// The value of a label.
pub(super) fn label_value(value: &str) -> Faults {
    let mut faults: Faults = longer_than(value, 63).into_iter().collect();
    if !value.is_empty() && !is_label_text(value) {
        faults.push(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start \
             and end with an alphanumeric character"
                .to_owned(),
        );
    }
    faults
}

/// The name of a port.
pub(super) fn port_name(value: &str) -> Faults {
    let mut faults: Faults = longer_than(value, 15).into_iter().collect();
    if value.is_empty() || !value.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        faults.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !value.bytes().any(|b| b.is_ascii_lowercase()) {
        faults.push("must contain at least one letter (a-z)".to_owned());
    }
    if value.contains("--") {
        faults.push("must not contain consecutive hyphens".to_owned());
    }
    if value.starts_with('-') || value.ends_with('-') {
        faults.push("must not begin or end with a hyphen".to_owned());
    }
    faults
}

/// The name of an environment variable for every kubelet.
pub(super) fn env_name(value: &str) -> Option<&'static str> {
    let printable = value.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'=');
    (!printable)
        .then_some("a valid environment variable name must consist only of printable ASCII characters other than '='")
}

/// The same for those before the gate RelaxedEnvironmentVariableValidation was on (1.32).
pub(super) fn strict_env_name(value: &str) -> Option<&'static str> {
    let first = |c: char| c.is_ascii_alphabetic() || matches!(c, '-' | '.' | '_');
    let strict = value.starts_with(first) && value.chars().all(|c| first(c) || c.is_ascii_digit());
    (!strict).then_some(
        "a valid environment variable name must consist of alphabetic characters, digits, '_', '-', or '.', and must not \
         start with a digit",
    )
}

/// The quantity in thousand-millionths; those beyond are as large as can be.
///
/// # Errors
/// The kubelet's sentence. It decodes no pod with such a quantity at all.
pub(super) fn quantity(text: &str) -> Result<i128, &'static str> {
    const FORM: &str = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
    let number = text.trim_start_matches(['+', '-']).find(|c: char| !c.is_ascii_digit() && c != '.');
    let signs = text.len() - text.trim_start_matches(['+', '-']).len();
    let (digits, suffix) = text.split_at(number.map_or(text.len(), |at| at + signs));
    let (whole, fraction) = digits[signs..].split_once('.').unwrap_or((&digits[signs..], ""));
    if signs > 1 || whole.len() + fraction.len() == 0 || fraction.contains('.') {
        return Err(FORM);
    }
    let (base, exponent): (i128, i32) = match suffix {
        "" => (10, 0),
        "n" => (10, -9),
        "u" => (10, -6),
        "m" => (10, -3),
        "k" => (10, 3),
        "M" => (10, 6),
        "G" => (10, 9),
        "T" => (10, 12),
        "P" => (10, 15),
        "E" => (10, 18),
        "Ki" => (1024, 1),
        "Mi" => (1024, 2),
        "Gi" => (1024, 3),
        "Ti" => (1024, 4),
        "Pi" => (1024, 5),
        "Ei" => (1024, 6),
        other => (10, other.strip_prefix(['e', 'E']).and_then(|digits| digits.parse().ok()).ok_or(FORM)?),
    };
    let mut value: i128 = 0;
    for digit in whole.bytes().chain(fraction.bytes()) {
        value = value.saturating_mul(10).saturating_add(i128::from(digit - b'0'));
    }
    // In thousand-millionths, and without the fraction's places.
    let places = 9 - i32::try_from(fraction.len()).unwrap_or(i32::MAX);
    let (up, tens) = if base == 10 { (1, places.saturating_add(exponent)) } else { (power(base, exponent), places) };
    value = value.saturating_mul(up);
    value = if tens >= 0 { value.saturating_mul(power(10, tens)) } else { value / power(10, -tens).max(1) };
    Ok(if digits.starts_with('-') { -value } else { value })
}

fn power(base: i128, exponent: i32) -> i128 {
    base.saturating_pow(u32::try_from(exponent).unwrap_or(0).min(38))
}
