//! Standard output. A reader that closed it (`| head`) is no failure.

use std::io::{self, Write as _};

use super::{Exit, Failure};

pub(super) fn text(text: &str) -> Result<Exit, Failure> {
    bytes(text.as_bytes())
}

pub(super) fn bytes(bytes: &[u8]) -> Result<Exit, Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::failed(format!("standard output: {error}")))
        }
        _ => Ok(Exit::Ok),
    }
}
