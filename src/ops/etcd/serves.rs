//! Proves that an etcd serves, after a restore or when its alarm is disarmed: with a write that etcd commits, and a linearizable read that returns it.

use std::time::Duration;

use etcd_client::Client;
use jiff::Timestamp;
use tokio::time::{Instant, sleep, timeout};

use super::node::member;
use crate::config::Settings;
use crate::observe;
use crate::ops::failure::Failure;

/// Next to what Kubernetes keeps, all of which begins with the API server's `--etcd-prefix`, `/registry` by default. It
/// is deleted again.
const KEY: &str = "lastgood/restored";
/// A freshly started member elects itself, or joins the others, within seconds; the pod is ready by then.
const LONGEST: Duration = Duration::from_secs(60);
/// For one call.
const CALL: Duration = Duration::from_secs(5);
/// Between two tries.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// The revision of a write that was read back by a linearizable read.
pub(crate) async fn proven(settings: &Settings) -> Result<i64, Failure> {
    let way = member(settings).await?.way;
    let deadline = Instant::now() + LONGEST;
    loop {
        let said = match observe::client(&way, CALL).await {
            Ok(client) => match write_and_read(client).await {
                Ok(revision) => return Ok(revision),
                Err(said) => format!("{way}: {said}"),
            },
            Err(said) => said,
        };
        if Instant::now() >= deadline {
            return Err(Failure::failed(format!(
                "the data are restored and its etcd was started, but a write or a linearizable read failed for {} s: \
                 {said}; next: `lastgood etcd status`, `lastgood explain etcd`",
                LONGEST.as_secs()
            )));
        }
        sleep(LOOK_AGAIN).await;
    }
}

/// Writes the key, reads it back, and deletes it. The revision of the write.
pub(crate) async fn write_and_read(client: Client) -> Result<i64, String> {
    let value = format!("{:.0}", Timestamp::now());
    let mut kv = client.kv_client();
    let put = within("a write", CALL, kv.put(KEY, value.as_str(), None)).await?;
    let revision =
        put.header().map(etcd_client::ResponseHeader::revision).ok_or("the answer to a write has no header")?;
    let got = within("a read", CALL, kv.get(KEY, None)).await?;
    let read = got.kvs().first().map(|kv| (kv.value(), kv.mod_revision()));
    if read != Some((value.as_bytes(), revision)) {
        return Err("the value that was read is not the one that was written".to_owned());
    }
    within("a deletion", CALL, kv.delete(KEY, None)).await?;
    Ok(revision)
}

/// A call with a deadline.
pub(crate) async fn within<T>(
    what: &str,
    limit: Duration,
    call: impl Future<Output = Result<T, etcd_client::Error>>,
) -> Result<T, String> {
    match timeout(limit, call).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!("{what} was not answered within {} s", limit.as_secs())),
    }
}
