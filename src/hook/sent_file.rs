//! The file of what was sent, in the run directory: a restart of the agent pages nobody twice, a reboot starts again.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::hook::Matter;
use crate::model::{ComponentId, Format, lift};
use crate::record::envelope;
use crate::sys::files::{self, Attributes};

const FORMAT: Format = Format { key: "notified", versions: &["what was sent of each component"], lift: lift::nothing };
/// Some hundred bytes for each component.
const MAX_BYTES: u64 = 1 << 20;
const NAME: &str = "notified.json";

/// What was sent of one component, while it waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Sent {
    pub matter: Matter,
    pub since: Timestamp,
    pub message: String,
    pub next_step: String,
}

/// What was sent and has not ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Notified {
    pub components: BTreeMap<ComponentId, Sent>,
}

pub(super) fn path(run: &Path) -> PathBuf {
    run.join(NAME)
}

/// What was sent since the machine started. A file that cannot be read is as good as none: a second page does less harm
/// than none at all.
pub(super) fn read(run: &Path) -> Notified {
    let bytes = files::read_bounded(&path(run), MAX_BYTES).unwrap_or_default();
    envelope::decode_any(&FORMAT, &bytes).unwrap_or_default()
}

/// # Errors
/// When it cannot be written.
pub(super) fn write(run: &Path, sent: &Notified) -> io::Result<()> {
    files::make_dir(run, 0o700)?;
    files::write_if_different(run, &path(run), &envelope::wrap(&FORMAT, sent)?, &Attributes::private()).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::component::HostService;

    #[test]
    fn what_was_sent_is_read_back_and_a_torn_file_is_as_good_as_none() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("run");
        assert_eq!(read(&run), Notified::default());
        let sent = Sent {
            matter: Matter::Unhealthy,
            since: Timestamp::UNIX_EPOCH,
            message: "host:kubelet is Down".to_owned(),
            next_step: "`journalctl -u kubelet`".to_owned(),
        };
        let notified = Notified { components: [(HostService::Kubelet.into(), sent)].into() };
        write(&run, &notified).unwrap();
        assert_eq!(read(&run), notified);
        envelope::golden(&FORMAT, (1, ""), &notified);
        let whole = std::fs::read(path(&run)).unwrap();
        std::fs::write(path(&run), &whole[..whole.len() / 2]).unwrap();
        assert_eq!(read(&run), Notified::default());
    }
}
