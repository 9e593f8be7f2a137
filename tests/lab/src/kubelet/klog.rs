//! Lines of the log as `journalctl -o short-unix` shows those of a real kubelet: klog's header, message and pairs.

use std::fmt::Write as _;
use std::process::id;

use jiff::Timestamp;

/// An error. What it is about is quoted as Go quotes it.
pub fn error(place: &str, message: &str, pairs: &[(&str, &str)]) {
    let now = Timestamp::now();
    let pid = id();
    let mut line = format!(
        "{}.{:06} node kubelet[{pid}]: E{} {pid:>7} {place}] {message:?}",
        now.as_second(),
        now.subsec_microsecond(),
        now.strftime("%m%d %H:%M:%S.%6f")
    );
    for (key, value) in pairs {
        let _ = write!(line, " {key}={value:?}");
    }
    eprintln!("{line}");
}
