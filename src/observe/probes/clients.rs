//! Clients' sides of TLS, kept: a key is parsed once for each change of its file, not once for each connection.
//!
//! A client is kept as long as the stat data of every file that was read for it, or looked for, stay the same, and until
//! one of its certificates begins or ceases to be valid. What failed is not kept. The connection itself, its handshake and
//! the server's certificate are as new as before: nothing is resumed.

use std::sync::{LazyLock, Mutex, PoisonError};

use super::files::Files;
use super::security::{Identity, Trust};
use super::tls::{self, Client};

/// More ways to connect than a node with several API servers has. Beyond it, the one that was made first is made again.
const KEPT: usize = 64;

static CLIENTS: LazyLock<Mutex<Vec<Kept>>> = LazyLock::new(Mutex::default);

#[derive(Debug)]
struct Kept {
    identities: Vec<Identity>,
    trust: Trust,
    alpn: Vec<u8>,
    files: Files,
    client: Client,
}

/// A client for these identities, as its files are now. Blocks on the disk.
///
/// # Errors
/// As [`tls::client`].
pub(super) fn client(identities: &[Identity], trust: &Trust, alpn: &[u8]) -> Result<Client, String> {
    let now = jiff::Timestamp::now();
    let is_it = |kept: &Kept| kept.identities == identities && kept.trust == *trust && kept.alpn == alpn;
    // Taken out while it is looked at: a disk that hangs holds up those who want the same, not everybody.
    let known = {
        let mut all = CLIENTS.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().position(is_it).map(|at| all.remove(at))
    };
    let known = known.filter(|kept| kept.files.are_the_same(now));
    let kept = match known {
        Some(kept) => kept,
        None => {
            let mut files = Files::default();
            let client = tls::client(identities, trust, alpn, &mut files)?;
            if !files.are_settled(now) {
                return Ok(client);
            }
            Kept { identities: identities.to_vec(), trust: trust.clone(), alpn: alpn.to_vec(), files, client }
        }
    };
    let client = kept.client.clone();
    let mut all = CLIENTS.lock().unwrap_or_else(PoisonError::into_inner);
    all.retain(|other| !is_it(other));
    if all.len() >= KEPT {
        all.remove(0);
    }
    all.push(kept);
    Ok(client)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::observe::testing::Pki;

    fn written(path: &Path, at: SystemTime) {
        std::fs::File::options().write(true).open(path).unwrap().set_modified(at).unwrap();
    }

    #[test]
    fn a_client_is_made_once_for_each_change_of_its_files() {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::new(dir.path());
        pki.sign("client", "ca", 5);
        pki.sign("renewed", "ca", 9);
        let (identities, trust) = ([pki.identity("client")], Trust::Authority(pki.path("ca.crt")));
        let made = |alpn: &[u8]| client(&identities, &trust, alpn).unwrap().config;
        // ctime tells the truth: the files have to be older than a tick of the file system.
        std::thread::sleep(Duration::from_millis(150));
        let first = made(b"");
        assert!(Arc::ptr_eq(&first, &made(b"")), "nothing changed");
        assert!(!Arc::ptr_eq(&first, &made(b"h2")), "another protocol");
        assert!(Arc::ptr_eq(&first, &made(b"")), "both are kept");

        for end in ["crt", "key"] {
            std::fs::copy(pki.path(&format!("renewed.{end}")), pki.path(&format!("client.{end}"))).unwrap();
        }
        let renewed = made(b"");
        assert!(!Arc::ptr_eq(&first, &renewed), "the certificate and its key were renewed");
        assert!(!Arc::ptr_eq(&renewed, &made(b"")), "it may change again within the same tick");
        std::thread::sleep(Duration::from_millis(150));
        let renewed = made(b"");
        assert!(Arc::ptr_eq(&renewed, &made(b"")));
        written(&pki.path("ca.crt"), SystemTime::now());
        assert!(!Arc::ptr_eq(&renewed, &made(b"")), "the authority");
        std::fs::remove_file(pki.path("client.key")).unwrap();
        assert!(client(&identities, &trust, b"").is_err(), "a key that is gone is not used from memory");
    }

    #[test]
    fn what_was_looked_for_and_was_missing_is_found_when_it_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::new(dir.path());
        pki.sign("client", "ca", 5);
        let late = Identity { certificate: pki.path("late.crt"), key: pki.path("late.key") };
        let identities = [late, pki.identity("client")];
        std::thread::sleep(Duration::from_millis(150));
        let made = || client(&identities, &Trust::Anyone, b"").unwrap().config;
        let first = made();
        assert!(Arc::ptr_eq(&first, &made()));
        for end in ["crt", "key"] {
            std::fs::copy(pki.path(&format!("client.{end}")), pki.path(&format!("late.{end}"))).unwrap();
        }
        assert!(!Arc::ptr_eq(&first, &made()), "the identity that comes first is there now");
    }
}
