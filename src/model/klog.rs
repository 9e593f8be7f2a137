//! The header of a line that klog wrote: `E1122 19:33:50.123456    1234 file.go:1301] text`.

/// Its severity (I, W, E or F), if it is such a line; it may be cut behind its day.
pub fn severity(line: &str) -> Option<char> {
    let severity = line.chars().next().filter(|first| "IWEF".contains(*first))?;
    let day = line.get(1..5)?;
    day.bytes().all(|byte| byte.is_ascii_digit()).then_some(severity)
}

/// Its severity and its text.
pub fn split(line: &str) -> Option<(char, &str)> {
    let severity = severity(line)?;
    line.split_once("] ").map(|(_, text)| (severity, text))
}
