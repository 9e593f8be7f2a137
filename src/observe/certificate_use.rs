//! Which processes have an older certificate in memory than the one on disk, and whether the kubelet's is one that its
//! rotation can replace.
//!
//! Who reads a renewed certificate again without a restart, as their sources have it:
//!
//! ```text
//!   etcd             --cert-file, --peer-cert-file …    at each handshake        client/pkg/transport/listener.go
//!   kube-apiserver   --tls-cert-file, SNI               within a minute, 1.17    apiserver/pkg/server/dynamiccertificates
//!                    --etcd-certfile                    at each handshake        etcd's client, the same file as above
//!                    --kubelet-client-certificate       at each handshake, 1.20  client-go/transport/transport.go
//!                    --proxy-client-cert-file           within a minute, 1.21    kube-aggregator/pkg/apiserver
//!   any client-go    kubeconfig that names files        at each handshake        client-go/transport/cert_rotation.go
//!                    kubeconfig that embeds them        never                    the same: "static"
//! ```
//!
//! What a handshake shows is the fact for serving certificates (served.rs), and the table is for the rest.
//!
//! A process is matched to its manifest by its command line. A certificate counts as renewed when its file was written:
//! kubeadm gives what it signs the beginning of its CA.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;

use crate::model::certificate_use::{KubeletCertificate, OlderInUse};
use crate::model::environment::{Certificate, User, Validity, kubeconfig_files};
use crate::model::{ComponentId, Digest, Manifest, Moment, Role};
use crate::observe::served::Shown;
use crate::sys::proc::{self, Process};

/// A process that starts while the file is written may have read either.
const MARGIN: Duration = Duration::from_secs(1);

/// Whatever reads a serving certificate again has done so by then.
const READ_AGAIN: Duration = Duration::from_secs(120);

/// What was on disk before, to say when the certificate in use ends.
#[derive(Debug, Default)]
pub(super) struct Renewals {
    /// Of each file: the certificate that is in it, its end, and the end of the one before.
    known: BTreeMap<PathBuf, (Digest, i64, Option<i64>)>,
}

impl Renewals {
    /// The processes that have an older certificate in memory. `found` are the certificates on disk.
    pub(super) fn look<'a>(
        &mut self,
        manifests: impl Iterator<Item = &'a Manifest>,
        processes: &[Process],
        found: &[Certificate],
        shown: &BTreeMap<ComponentId, Shown>,
        now: Moment,
    ) -> Vec<OlderInUse> {
        for one in found {
            let (known, end, before) =
                self.known.entry(one.path.clone()).or_insert((one.fingerprint, one.not_after, None));
            if *known != one.fingerprint {
                (*known, *before, *end) = (one.fingerprint, Some(*end), one.not_after);
            }
        }
        self.known.retain(|path, _| found.iter().any(|one| one.path == *path));
        let started = |manifest: &Manifest| {
            let line = manifest.command_line()?;
            let running = processes.iter().filter(|process| process.args == line);
            let newest = running.filter_map(|process| proc::started(process.pid)).max()?;
            now.wall.checked_sub(now.boot.saturating_sub(newest)).ok()
        };
        let mut all = Vec::new();
        for manifest in manifests {
            let Some(started) = started(manifest) else { continue };
            if let Some((one, renewed, end)) = shows_another(manifest, found, shown) {
                let (component, path) = (manifest.id.clone(), one.path.clone());
                all.push(OlderInUse { component, path, renewed, started, ends: Some(end) });
                continue;
            }
            for (path, renewed) in held_until_restart(manifest, found) {
                if renewed > started + MARGIN {
                    let ends = self.known.get(path).and_then(|(_, _, before)| *before);
                    let (component, path) = (manifest.id.clone(), path.to_owned());
                    all.push(OlderInUse { component, path, renewed, started, ends });
                }
            }
        }
        all
    }
}

/// The serving certificate on disk, when it was written, and the end of the other one that the process shows, long after
/// it should have read it again. What is shown is the fact, whatever the table says.
fn shows_another<'a>(
    manifest: &Manifest,
    found: &'a [Certificate],
    shown: &BTreeMap<ComponentId, Shown>,
) -> Option<(&'a Certificate, Timestamp, i64)> {
    let shown = shown.get(&manifest.id)?;
    let flag = if manifest.role == Role::Etcd { "cert-file" } else { "tls-cert-file" };
    let path = manifest.host_path(Path::new(&manifest.flag(flag)?))?;
    let one = found.iter().find(|one| one.path == path)?;
    let renewed = written(&path)?;
    let other = one.fingerprint != shown.certificate.fingerprint && shown.at > renewed + READ_AGAIN;
    other.then_some((one, renewed, shown.certificate.dates.not_after))
}

/// The certificates that a process of this manifest reads once, and when each was written.
fn held_until_restart<'a>(manifest: &Manifest, found: &'a [Certificate]) -> Vec<(&'a Path, Timestamp)> {
    let kubeconfigs = kubeconfig_files(manifest);
    let user = User::Component(manifest.id.clone());
    let own = found.iter().filter(|one| !one.authority && one.users.contains(&user));
    let held = own.filter(|one| kubeconfigs.contains(&one.path) || !reloads(manifest, &one.path));
    held.filter_map(|one| Some((one.path.as_path(), written(&one.path)?))).collect()
}

/// Whether a process of this manifest reads a certificate file again. What is unknown is taken to do so.
fn reloads(manifest: &Manifest, path: &Path) -> bool {
    /// The flags of the API server that were read once before this version.
    const SINCE: [(&str, (u32, u32)); 3] =
        [("tls-cert-file", (1, 17)), ("kubelet-client-certificate", (1, 20)), ("proxy-client-cert-file", (1, 21))];
    let Some(version) = manifest.minor_version().filter(|_| manifest.role == Role::ApiServer) else { return true };
    !SINCE.iter().any(|(flag, since)| {
        let named = manifest.flag(flag).and_then(|inside| manifest.host_path(Path::new(&inside)));
        named.as_deref() == Some(path) && version < *since
    })
}

fn written(path: &Path) -> Option<Timestamp> {
    Timestamp::try_from(fs::metadata(path).ok()?.modified().ok()?).ok()
}

/// Whether the kubelet's client certificate is one that its rotation can replace. Where it does not rotate at all, an
/// embedded one is the operator's choice until its end is near.
pub(super) fn kubelet(
    pki: &Path,
    kubeconfig: &Path,
    found: &[Certificate],
    now: Timestamp,
) -> Option<KubeletCertificate> {
    let path = pki.join("kubelet-client-current.pem");
    let there = fs::symlink_metadata(&path);
    let embedded =
        found.iter().find(|one| !one.authority && one.path == kubeconfig && one.users.contains(&User::Kubelet));
    if let Some(one) = embedded {
        let (kubeconfig, rotates) = (kubeconfig.to_owned(), there.is_ok());
        let reported = rotates || one.validity(now) != Validity::Valid;
        return reported.then_some(KubeletCertificate::Embedded {
            kubeconfig,
            not_after: one.not_after,
            path,
            rotates,
        });
    }
    // A kubelet that does not rotate has its certificate elsewhere, or is given it by somebody who replaces the file.
    let is_named = found.iter().any(|one| one.path == path && one.named.contains(kubeconfig));
    if !is_named || !there.is_ok_and(|meta| meta.is_file()) {
        return None;
    }
    Some(KubeletCertificate::NoLink { rotated: rotated(pki, &path), path })
}

/// The newest of the kubelet's dated files that is no older than what it uses: `kubelet-client-2026-01-31-10-11-12.pem`.
fn rotated(pki: &Path, current: &Path) -> Option<PathBuf> {
    let present = fs::read(current).ok()?;
    let entries = fs::read_dir(pki).ok()?.flatten().map(|entry| entry.path());
    let dated = entries.filter(|path| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let date = name.strip_prefix("kubelet-client-").and_then(|rest| rest.strip_suffix(".pem"));
        date.is_some_and(|date| date.starts_with(|c: char| c.is_ascii_digit()))
    });
    let newest = dated.max()?;
    let end = |bytes: &[u8]| {
        let all = super::credentials::certificates(bytes).ok()?;
        super::credentials::Described::of(all.first()?).map(|one| one.dates.not_after)
    };
    let newer = end(&fs::read(&newest).ok()?)? >= end(&present)?;
    newer.then_some(newest)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::process::Command;

    use super::*;
    use crate::observe::credentials::{Dates, Described};
    use crate::observe::testing::Pki;
    use crate::sys::clock;

    fn certificate(path: &Path, user: User, end: i64) -> Certificate {
        Certificate {
            path: path.to_owned(),
            named: [path.to_owned()].into(),
            users: [user].into(),
            subject: "s".into(),
            issuer: "i".into(),
            not_before: 0,
            not_after: end,
            authority: false,
            fingerprint: Digest::of(&end.to_be_bytes()),
        }
    }

    #[test]
    fn a_process_that_is_older_than_its_kubeconfig_has_the_certificate_of_before() {
        let dir = tempfile::tempdir().unwrap();
        let conf = dir.path().join("scheduler.conf");
        fs::write(&conf, "old").unwrap();
        // A process with the command line of a manifest.
        let text = format!(
            "--- {{apiVersion: v1, kind: Pod, metadata: {{name: kube-scheduler, namespace: kube-system}}, spec: {{volumes: \
             [{{name: k, hostPath: {{path: {0}}}}}], containers: [{{name: s, image: 'i:v1.34.0', volumeMounts: [{{name: k, \
             mountPath: {0}}}], command: [sleep, '60', --kubeconfig={1}]}}]}}}}",
            dir.path().display(),
            conf.display()
        );
        let manifest = Manifest::parse(text.into_bytes().into()).unwrap();
        let line = manifest.command_line().unwrap();
        let mut child = Command::new("sh").args(["-c", "sleep 60"]).spawn().unwrap();
        let process = Process { pid: i32::try_from(child.id()).unwrap(), uid: 0, args: line };
        let user = || User::Component(manifest.id.clone());
        let mut renewals = Renewals::default();
        let mut look = |end| {
            renewals.look(
                [&manifest].into_iter(),
                std::slice::from_ref(&process),
                &[certificate(&conf, user(), end)],
                &BTreeMap::new(),
                clock::now(),
            )
        };
        let written_at = |seconds: i64| {
            let at = Timestamp::now().as_second() + seconds;
            let at = std::time::UNIX_EPOCH + Duration::from_secs(u64::try_from(at).unwrap());
            fs::File::options().write(true).open(&conf).unwrap().set_modified(at).unwrap();
        };
        written_at(-100);
        assert_eq!(look(10), [], "it was written before the process started");
        written_at(100);
        let found = look(20);
        child.kill().unwrap();
        child.wait().unwrap();
        let [older] = &found[..] else { panic!("{found:?}") };
        assert_eq!((older.component.clone(), &older.path, older.ends), (manifest.id.clone(), &conf, Some(10)));
        assert!(older.finding().next.contains("--name kube-scheduler"), "{older:?}");
        assert_eq!(look(20), [], "it does not run any more");
    }

    #[test]
    fn what_a_handshake_shows_counts_before_the_table() {
        let dir = tempfile::tempdir().unwrap();
        let crt = dir.path().join("apiserver.crt");
        fs::write(&crt, "new").unwrap();
        let text = format!(
            "--- {{apiVersion: v1, kind: Pod, metadata: {{name: kube-apiserver, namespace: kube-system}}, spec: {{volumes: \
             [{{name: k, hostPath: {{path: {0}}}}}], containers: [{{name: s, image: 'i:v1.34.0', volumeMounts: [{{name: k, \
             mountPath: {0}}}], command: [kube-apiserver, --tls-cert-file={1}]}}]}}}}",
            dir.path().display(),
            crt.display()
        );
        let manifest = Manifest::parse(text.into_bytes().into()).unwrap();
        let on_disk = certificate(&crt, User::Component(manifest.id.clone()), 20);
        // The end of the certificate that is shown, how many seconds after the renewal, and whether that is another.
        for (end, after, another) in [(10, 300, true), (10, 30, false), (20, 300, false)] {
            let described = Described {
                subject: "kube-apiserver".into(),
                issuer: "kubernetes".into(),
                dates: Dates { not_before: 0, not_after: end },
                authority: false,
                addresses: std::collections::BTreeSet::new(),
                fingerprint: Digest::of(&i64::to_be_bytes(end)),
            };
            let at = Timestamp::now() + Duration::from_secs(after);
            let shown = BTreeMap::from([(manifest.id.clone(), Shown { certificate: described, at })]);
            let found = shows_another(&manifest, std::slice::from_ref(&on_disk), &shown).map(|(_, _, end)| end);
            assert_eq!(found, another.then_some(end), "{end}, {after} s after the renewal");
        }
    }

    #[test]
    fn what_an_api_server_reads_again_goes_by_its_version() {
        let api = |version: &str| {
            let text = format!(
                "--- {{apiVersion: v1, kind: Pod, metadata: {{name: kube-apiserver, namespace: kube-system}}, spec: {{volumes: \
                 [{{name: k, hostPath: {{path: /pki}}}}], containers: [{{name: s, image: 'i:{version}', volumeMounts: \
                 [{{name: k, mountPath: /pki}}], command: [kube-apiserver, --tls-cert-file=/pki/a.crt, \
                 --kubelet-client-certificate=/pki/k.crt, --proxy-client-cert-file=/pki/p.crt, \
                 --etcd-certfile=/pki/e.crt]}}]}}}}"
            );
            let manifest = Manifest::parse(text.into_bytes().into()).unwrap();
            ["a", "k", "p", "e"].map(|name| reloads(&manifest, Path::new(&format!("/pki/{name}.crt"))))
        };
        assert_eq!(api("v1.34.2"), [true; 4]);
        assert_eq!(api("v1.20.1"), [true, true, false, true]);
        assert_eq!(api("v1.18.0"), [true, false, false, true]);
        assert_eq!(api("v1.16.0"), [false, false, false, true]);
        assert_eq!(api("latest"), [true; 4], "unknown");
    }

    #[test]
    fn the_kubelets_certificate_has_to_be_a_link_that_its_kubeconfig_names() {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::new(dir.path());
        pki.sign("old", "ca", 5);
        pki.sign("new", "ca", 50);
        let at = |name: &str| dir.path().join(name);
        let (current, conf) = (at("kubelet-client-current.pem"), at("kubelet.conf"));
        let dated = at("kubelet-client-2026-01-31-10-11-12.pem");
        let mut named = certificate(&current, User::Kubelet, 10);
        named.named.insert(conf.clone());
        let now = Timestamp::UNIX_EPOCH;
        let look = |found: &[Certificate]| kubelet(dir.path(), &conf, found, now);

        fs::copy(pki.path("new.crt"), &dated).unwrap();
        symlink(&dated, &current).unwrap();
        assert_eq!(look(std::slice::from_ref(&named)), None, "as it should be");
        fs::remove_file(&current).unwrap();
        fs::copy(pki.path("new.crt"), &current).unwrap();
        let no_link = |rotated| Some(KubeletCertificate::NoLink { path: current.clone(), rotated });
        assert_eq!(look(std::slice::from_ref(&named)), no_link(Some(dated.clone())), "copied from the link");
        fs::copy(pki.path("old.crt"), &dated).unwrap();
        let older = look(std::slice::from_ref(&named));
        assert_eq!(older, no_link(None), "the dated one is older");
        assert!(older.unwrap().finding().next.contains("mv "), "nothing is lost");
        named.named.remove(&conf);
        assert_eq!(look(std::slice::from_ref(&named)), None, "no kubeconfig names it");

        let embedded = certificate(&conf, User::Kubelet, 7);
        let found = look(&[embedded]);
        assert!(matches!(found, Some(KubeletCertificate::Embedded { not_after: 7, rotates: true, .. })), "{found:?}");
        fs::remove_file(&current).unwrap();
        let year = certificate(&conf, User::Kubelet, 365 * 86400);
        assert_eq!(look(&[year]), None, "it does not rotate, and its end is far");
        let ended = look(&[certificate(&conf, User::Kubelet, -1)]);
        assert!(matches!(ended, Some(KubeletCertificate::Embedded { rotates: false, .. })), "{ended:?}");
        let other = certificate(&conf, User::Component(ComponentId::system("kube-scheduler")), 7);
        assert_eq!(look(&[other]), None);
    }
}
