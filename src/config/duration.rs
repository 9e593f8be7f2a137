//! Durations in the notation of the configuration: `500ms`, `60s`, `5m`, `1h30m`, `7d`.

use std::time::Duration;

/// The units, the largest first, and how many milliseconds each is.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// Why a text is no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a duration: write it like \"500ms\", \"60s\", \"5m\" or \"1h30m\"")]
pub struct NotADuration(String);

/// Reads a duration: one or more numbers, each with its unit, the larger unit first.
///
/// # Errors
/// Says what was read and how a duration is written. A bare number is refused: nobody can tell its unit.
pub fn parse(text: &str) -> Result<Duration, NotADuration> {
    let not = || NotADuration(text.to_owned());
    let mut rest = text;
    let mut total: u64 = 0;
    let mut smallest = u64::MAX;
    if rest.is_empty() {
        return Err(not());
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest[..digits].parse().map_err(|_| not())?;
        rest = &rest[digits..];
        let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (_, unit) = UNITS.iter().find(|(name, _)| *name == &rest[..letters]).ok_or_else(not)?;
        if *unit >= smallest {
            return Err(not());
        }
        smallest = *unit;
        total = number.checked_mul(*unit).and_then(|part| total.checked_add(part)).ok_or_else(not)?;
        rest = &rest[letters..];
    }
    Ok(Duration::from_millis(total))
}

/// Writes a duration so that [`parse`] reads it back; what is finer than a millisecond is left out.
pub fn print(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if rest == 0 {
        return "0s".to_owned();
    }
    // An hour and a half is "1h30m", but 90 s stays "90s" and a day "24h", as people write them.
    if rest % 1000 == 0 && rest <= 120_000 && rest % 60_000 != 0 {
        return format!("{}s", rest / 1000);
    }
    let mut text = String::new();
    for (name, unit) in &UNITS[1..] {
        if rest >= *unit {
            text.push_str(&format!("{}{name}", rest / unit));
            rest %= unit;
        }
    }
    text
}

/// Writes a duration for people to read, in at most two units and no finer than a second: `3d4h`, `12m5s`, `0s`.
pub fn roughly(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (d, h, m, s) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let two = |a: u64, x: &str, b: u64, y: &str| if b == 0 { format!("{a}{x}") } else { format!("{a}{x}{b}{y}") };
    match (d, h, m) {
        (0, 0, 0) => format!("{s}s"),
        (0, 0, _) => two(m, "m", s, "s"),
        (0, _, _) => two(h, "h", m, "m"),
        _ => two(d, "d", h, "h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_people_write_is_read() {
        for (text, millis) in [
            ("500ms", 500),
            ("60s", 60_000),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("1m500ms", 60_500),
            ("24h", 86_400_000),
            ("1d", 86_400_000),
            ("0s", 0),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn what_is_unclear_is_refused_with_the_way_to_write_it() {
        for text in
            ["", "5", "5 minutes", "5min", "m", "-5m", "1.5h", "30m1h", "5m5m", "5M", "99999999999999999999s", "ß"]
        {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains("1h30m"), "{text:?}: {error}");
        }
    }

    #[test]
    fn printed_as_written() {
        for text in ["500ms", "1s", "60s", "90s", "5m", "1h30m", "24h", "10m", "1m500ms", "0s"] {
            let printed = print(parse(text).unwrap());
            assert_eq!(if text == "60s" { "1m" } else { text }, printed);
        }
        assert_eq!(roughly(Duration::from_secs(273)), "4m33s");
        assert_eq!(roughly(Duration::from_secs(7200)), "2h");
        assert_eq!(roughly(Duration::from_secs(100_000)), "1d3h");
    }

    proptest! {
        #[test]
        fn every_duration_comes_back(millis in 0u64..10_000_000_000) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse(&print(duration)), Ok(duration));
        }

        #[test]
        fn no_text_panics(text in ".*") {
            let _ = parse(&text);
        }
    }
}
