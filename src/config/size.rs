//! Amounts of bytes in the notation of the configuration: `10GB`, `512MiB`.

/// The units, the larger of two that fit first, and how many bytes each is.
const UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("KB", 1000),
    ("B", 1),
];

/// Why a text is no amount of bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an amount of bytes: write it like \"10GB\", \"512MiB\"")]
pub struct NotASize(String);

/// Reads an amount: a whole number and its unit.
///
/// # Errors
/// Says what was read and how an amount is written. A bare number is refused: nobody can tell its unit.
pub fn parse(text: &str) -> Result<u64, NotASize> {
    let not = || NotASize(text.to_owned());
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| not())?;
    let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(not)?;
    number.checked_mul(*factor).ok_or_else(not)
}

/// Writes an amount so that [`parse`] reads the same back: in the largest unit that divides it.
pub fn print(bytes: u64) -> String {
    let divides = |(_, factor): &&(&str, u64)| bytes >= *factor && bytes.is_multiple_of(*factor);
    let (name, factor) = UNITS.iter().find(divides).unwrap_or(&("B", 1));
    format!("{}{name}", bytes / factor)
}

/// Writes an amount for people to read, in binary units, with one digit behind the point below ten: `1.5 GiB`, `340 MiB`.
pub fn roughly(bytes: u64) -> String {
    const BINARY: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match BINARY.iter().find(|(_, factor)| bytes >= *factor) {
        None => format!("{bytes} B"),
        Some((name, factor)) if bytes / factor >= 10 => format!("{} {name}", bytes / factor),
        Some((name, factor)) => format!("{}.{} {name}", bytes / factor, bytes % factor * 10 / factor),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_people_write_is_read() {
        for (text, bytes) in [("10GB", 10_000_000_000), ("512MiB", 512 << 20), ("1TB", 1_000_000_000_000), ("0B", 0)] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
            assert_eq!(print(bytes), text);
        }
        assert_eq!(roughly(1_610_612_736), "1.5 GiB");
        assert_eq!(roughly(340 << 20), "340 MiB");
        assert_eq!(roughly(12), "12 B");
    }

    #[test]
    fn what_is_unclear_is_refused_with_the_way_to_write_it() {
        for text in ["", "10", "10 GB", "GB", "-1GB", "1.5GB", "10gb", "99999999999TB"] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains("512MiB"), "{text:?}: {error}");
        }
    }

    proptest! {
        #[test]
        fn every_amount_comes_back(bytes: u64) {
            prop_assert_eq!(parse(&print(bytes)), Ok(bytes));
        }

        #[test]
        fn no_text_panics(text in ".*") {
            let _ = parse(&text);
        }
    }
}
