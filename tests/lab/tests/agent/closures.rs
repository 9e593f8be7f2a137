//! A file that a manifest mounts is changed: configuration comes back with its generation, key material never does (Q4).
//!
//! ```text
//!   changed ─▶ Unread ─▶ a process reads it ─▶ Probation ─▶ its crashes ─▶ put back byte for byte, mode and owner
//!              key material: no generation, nothing put back, the file named, no copy of it anywhere
//! ```

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lastgood_lab::manifests::Component;
use lastgood_lab::node::Node;
use lastgood_lab::pki::{Authority, San, Usage};
use tokio::time::sleep;

use crate::changes::{is, quick};
use crate::stage::{SOON, Stage};

const API: Component = Component::ApiServer;

/// No secret of a test is anything else, so that a copy of one is found wherever it lies.
const MARKER: &str = "bWFya2VyLW9mLWEtc2VjcmV0LW9mLXRoZS10ZXN0ISE=";

const AUDIT: &str = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n- level: Metadata # as it was\n";

/// A deadline that no test waits for.
const NO_DEADLINE: (&str, &str) = ("progress-deadline = \"30s\"", "progress-deadline = \"1h\"");

/// A manifest with these flags and host paths mounted where they are.
fn with(text: &str, flags: &[&str], mounts: &[(&str, &str)]) -> String {
    let mut text = text.to_owned();
    for flag in flags {
        text = text.replacen("    - --advertise-address", &format!("    - {flag}\n    - --advertise-address"), 1);
    }
    for (number, (path, kind)) in mounts.iter().enumerate() {
        let mount =
            format!("    volumeMounts:\n    - mountPath: {path}\n      name: lab-{number}\n      readOnly: true\n");
        let volume =
            format!("  volumes:\n  - hostPath:\n      path: {path}\n      type: {kind}\n    name: lab-{number}\n");
        text = text.replacen("    volumeMounts:\n", &mount, 1).replacen("  volumes:\n", &volume, 1);
    }
    text
}

/// Everything below the agent's directories that holds these bytes.
fn copies(node: &Node, what: &str) -> Result<Vec<PathBuf>> {
    fn look(path: &Path, what: &[u8], found: &mut Vec<PathBuf>) -> Result<()> {
        for entry in fs::read_dir(path).with_context(|| path.display().to_string())? {
            let path = entry?.path();
            let meta = fs::symlink_metadata(&path)?;
            if meta.is_dir() {
                look(&path, what, found)?;
            } else if meta.is_file() && fs::read(&path)?.windows(what.len()).any(|window| window == what) {
                found.push(path);
            }
        }
        Ok(())
    }
    let mut found = Vec::new();
    for dir in ["/var/lib/lastgood", "/etc/kubernetes/.lastgood", "/etc/kubernetes/inactive-manifests"] {
        let dir = node.path(dir);
        if dir.exists() {
            look(&dir, what.as_bytes(), &mut found)?;
        }
    }
    Ok(found)
}

impl Stage {
    fn file(&self, path: &str) -> PathBuf {
        self.node.path(path)
    }

    /// Writes a file of the node, its directory too, keeping the mode of one that stands. By one rename, as the tools
    /// do that write such files: a look between truncating and writing would see another change.
    fn put(&self, path: &str, text: &str) -> Result<()> {
        let path = self.file(path);
        let mode = fs::metadata(&path).map_or(0o600, |meta| meta.mode() & 0o7777);
        fs::create_dir_all(path.parent().context("a file has a directory")?)?;
        let beside = self.file("/etc/kubernetes/.lab-new");
        fs::write(&beside, text).with_context(|| beside.display().to_string())?;
        fs::set_permissions(&beside, fs::Permissions::from_mode(mode))?;
        fs::rename(&beside, &path).with_context(|| path.display().to_string())
    }

    /// Waits until a file holds this text.
    async fn holds(&self, path: &str, text: &str) -> Result<()> {
        let began = std::time::Instant::now();
        while fs::read_to_string(self.file(path)).ok().as_deref() != Some(text) {
            ensure!(began.elapsed() < SOON, "{path} is not put back:\n{}", self.story());
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// The API server's manifest with more flags and mounts becomes known-good as its second generation.
    async fn adopt(&self, flags: &[&str], mounts: &[(&str, &str)]) -> Result<()> {
        self.node.edit_manifest(&API.file(), |text| with(text, flags, mounts))?;
        self.steady_on(API, 2).await
    }

    /// Has a component's process end as a panic would; it may be between two lives already on a busy machine.
    async fn crash(&self, component: Component) -> Result<()> {
        let began = std::time::Instant::now();
        while let Err(error) = self.node.tell(component.name(), "crash").await {
            ensure!(began.elapsed() < SOON, "{error:#}\n{}", self.story());
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Waits until the newest container of a component has exited by itself.
    async fn crashes_on(&self, component: Component, attempts: u32) -> Result<()> {
        let began = std::time::Instant::now();
        while self.node.containers(component).await?.last().is_none_or(|c| c.attempt < attempts) {
            ensure!(began.elapsed() < SOON, "{component} does not crash:\n{}", self.story());
            sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_broken_audit_policy_is_recognised_as_the_change_and_put_back_as_it_was() -> Result<()> {
    let stage = Stage::with(&quick(&[NO_DEADLINE])).await?;
    let path = "/etc/kubernetes/audit/policy.yaml";
    stage.put(path, AUDIT)?;
    let file = stage.file(path);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640))?;
    std::os::unix::fs::chown(&file, Some(0), Some(42))?;
    stage.adopt(&["--audit-policy-file=/etc/kubernetes/audit/policy.yaml"], &[(path, "File")]).await?;
    let manifest = stage.manifest(API)?;

    // Changed under a process that has read the old one: nothing is proven or disproven until another reads it.
    let broken = AUDIT.replace("Metadata", "Everything");
    stage.put(path, &broken)?;
    stage.in_state(API, "unread").await?;
    stage.node.serving(API).await?;
    ensure!(fs::read_to_string(&file)? == broken, "nothing is put back before it has done harm");
    stage.crash(API).await?;
    stage.told("a process started that reads the changed files").await?;
    stage.told("generation 3 is quarantined").await?;
    stage.told("rules[0].level: Unsupported value").await?;
    stage.holds(path, AUDIT).await?;
    let meta = fs::metadata(&file)?;
    ensure!((meta.mode() & 0o7777, meta.uid(), meta.gid()) == (0o640, 0, 42), "{meta:?}");
    stage.back(API, &manifest).await?;
    stage.steady_on(API, 2).await?;
    stage.all_serve().await?;

    // Written again it is reverted at once, under the process that serves.
    let pod = stage.running_pod(API).await?;
    let attempt = stage.node.containers(API).await?.last().map(|c| c.id.clone());
    fs::write(&file, &broken)?;
    stage.told("quarantined generation 3 is deployed again").await?;
    stage.holds(path, AUDIT).await?;
    stage.steady_on(API, 2).await?;
    ensure!(stage.running_pod(API).await? == pod, "a pod that serves is not replaced for a file it never read");
    ensure!(stage.node.containers(API).await?.last().map(|c| c.id.clone()) == attempt, "{}", stage.story());

    // A change for the better is proven by a process that reads it.
    stage.put(path, &AUDIT.replace("Metadata", "Request"))?;
    stage.in_state(API, "unread").await?;
    stage.crash(API).await?;
    stage.steady_on(API, 4).await?;
    stage.the_same_after_a_restart().await
}

#[tokio::test]
async fn an_admission_directory_is_put_back_with_the_files_that_its_configuration_names() -> Result<()> {
    let stage = Stage::with(&quick(&[NO_DEADLINE])).await?;
    let (config, named) = ("/etc/kubernetes/admission/config.yaml", "/etc/kubernetes/admission/limits/event.yaml");
    let admission = "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins:\n\
                     - name: EventRateLimit\n  path: limits/event.yaml\n";
    let limits = "apiVersion: eventratelimit.admission.k8s.io/v1alpha1\nkind: Configuration\nlimits: []\n";
    stage.put(config, admission)?;
    stage.put(named, limits)?;
    let flags = ["--admission-control-config-file=/etc/kubernetes/admission/config.yaml"];
    stage.adopt(&flags, &[("/etc/kubernetes/admission", "Directory")]).await?;

    // One goes, and no time of any file tells that it did; the process has not read that it is gone all the same.
    fs::remove_file(stage.file(named))?;
    stage.in_state(API, "unread").await?;
    // The other is broken as well: both belong to the generation.
    stage.put(config, &admission.replace("plugins", "plugin"))?;
    stage.told("Unread(generation 4)").await?;
    stage.crash(API).await?;
    stage.told("is quarantined").await?;
    stage.holds(config, admission).await?;
    stage.holds(named, limits).await?;
    stage.steady_on(API, 2).await?;
    stage.the_same_after_a_restart().await
}

#[tokio::test]
async fn q4_a_kubeconfig_that_cannot_work_is_put_back_and_a_renewed_one_is_the_same_generation() -> Result<()> {
    let stage = Stage::with(&quick(&[NO_DEADLINE])).await?;
    let manager = Component::ControllerManager;
    let path = "/etc/kubernetes/controller-manager.conf";

    // Renewed: another key and certificate for the same user. The kept copy follows, the generation stays.
    let renewed = renewed(&stage, path)?;
    stage.put(path, &renewed)?;
    let key = renewed.lines().find(|line| line.contains("client-key-data")).context("it has a key")?.trim().to_owned();
    let began = std::time::Instant::now();
    while copies(&stage.node, &key)?.is_empty() {
        ensure!(began.elapsed() < SOON, "the kept copy does not follow:\n{}", stage.story());
        sleep(Duration::from_millis(100)).await;
    }
    stage.steady_on(manager, 1).await?;
    stage.crash(Component::ControllerManager).await?;
    stage.crashes_on(manager, 1).await?;
    stage.all_serve().await?;
    stage.until(manager, "healthy", |c| is(c, "verdict", "healthy") && is(c, "state", "steady")).await?;
    ensure!(stage.component(manager).await?["generation"] == 1, "{}", stage.story());

    // Torn: it cannot work, and what is put back is the renewed one.
    stage.put(path, renewed.split_at(renewed.len() / 2).0)?;
    stage.in_state(manager, "unread").await?;
    stage.crash(Component::ControllerManager).await?;
    stage.told("generation 2 is quarantined").await?;
    stage.holds(path, &renewed).await?;
    let mode = fs::metadata(stage.file(path))?.mode() & 0o7777;
    ensure!(mode == 0o600, "mode {mode:o}");
    stage.steady_on(manager, 1).await?;
    stage.the_same_after_a_restart().await
}

#[tokio::test]
async fn q4_a_kubeconfig_that_works_with_another_credential_is_left_and_named() -> Result<()> {
    let stage = Stage::with(&quick(&[NO_DEADLINE])).await?;
    let manager = Component::ControllerManager;
    let path = "/etc/kubernetes/controller-manager.conf";
    let good = fs::read_to_string(stage.file(path))?;
    // It parses, its key fits its certificate, and another authority made both.
    let etcd = stage.file("/etc/kubernetes/pki/etcd/healthcheck-client");
    let pair = (encoded(&etcd.with_extension("crt"))?, encoded(&etcd.with_extension("key"))?);
    let other = with_pair(&good, &pair).replace("system:kube-controller-manager", "somebody-else");
    stage.put(path, &other)?;
    stage.in_state(manager, "unread").await?;
    stage.crash(Component::ControllerManager).await?;
    let held = stage.in_state(manager, "held").await?;
    ensure!(held.to_string().contains(path), "the file is not named: {held}");
    ensure!(fs::read_to_string(stage.file(path))? == other, "what works elsewhere is not overwritten");
    stage.put(path, &good)?;
    stage.steady_on(manager, 1).await?;
    stage.the_same_after_a_restart().await
}

#[tokio::test]
async fn q4_secrets_that_are_broken_or_gone_are_named_and_never_put_back_nor_kept() -> Result<()> {
    let stage = Stage::with(&quick(&[NO_DEADLINE])).await?;
    let encryption = "/etc/kubernetes/enc/config.yaml";
    let tokens = "/etc/kubernetes/enc/tokens.csv";
    let key = "/etc/kubernetes/pki/apiserver.key";
    let encrypting = format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets]\n  \
         providers:\n  - secretbox:\n      keys:\n      - name: one\n        secret: {MARKER}\n  - identity: {{}}\n"
    );
    stage.put(encryption, &encrypting)?;
    stage.put(tokens, &format!("{MARKER},robot,1001,\"system:masters\"\n"))?;
    let flags = [
        "--encryption-provider-config=/etc/kubernetes/enc/config.yaml",
        "--token-auth-file=/etc/kubernetes/enc/tokens.csv",
    ];
    stage.adopt(&flags, &[("/etc/kubernetes/enc", "Directory")]).await?;
    let rollbacks = stage.times_told("RollingBack");

    let broken = [
        (encryption, Some(format!("{encrypting} - torn: {{"))),
        (tokens, Some(format!("{MARKER}\n"))),
        (key, Some(format!("-----BEGIN RSA PRIVATE KEY-----\n{MARKER}\n"))),
        (key, None),
    ];
    for (path, text) in broken {
        let good = fs::read(stage.file(path))?;
        match &text {
            Some(text) => stage.put(path, text)?,
            None => fs::remove_file(stage.file(path))?,
        }
        stage.crash(API).await?;
        let named = |c: &serde_json::Value| is(c, "state", "steady") && c.to_string().contains(path);
        stage.until(API, &format!("{path} named"), named).await?;
        let attempt = stage.node.containers(API).await?.last().map_or(0, |c| c.attempt);
        stage.crashes_on(API, attempt + 1).await?;
        let standing = fs::read(stage.file(path)).ok();
        ensure!(standing == text.map(String::into_bytes), "{path} was touched:\n{}", stage.story());
        fs::write(stage.file(path), good)?;
        stage.node.await_serving(API, SOON).await.with_context(|| stage.story())?;
        stage.until(API, "healthy", |c| is(c, "verdict", "healthy") && is(c, "state", "steady")).await?;
    }
    ensure!(stage.times_told("RollingBack") == rollbacks, "{}", stage.story());
    ensure!(stage.component(API).await?["generation"] == 2, "key material makes no generation:\n{}", stage.story());
    let kept = copies(&stage.node, MARKER)?;
    ensure!(kept.is_empty(), "copies of a secret: {kept:?}");
    let private = copies(&stage.node, "BEGIN RSA PRIVATE KEY")?;
    ensure!(private.is_empty(), "copies of a private key: {private:?}");
    ensure!(!stage.story().contains(MARKER), "a secret in the journal:\n{}", stage.story());
    stage.the_same_after_a_restart().await
}

/// As `kubeadm certs renew all` does it: new keys and certificates by the same authorities, and nothing is restarted.
fn renew_all(stage: &Stage) -> Result<()> {
    let pki = stage.file("/etc/kubernetes/pki");
    let here = San::Address(Ipv4Addr::LOCALHOST.into());
    let names = [San::Name("localhost"), San::Name(stage.node.name()), San::Name("kubernetes"), here];
    let leaves: [(&str, &str, &str, Option<&str>, Usage); 7] = [
        ("ca", "apiserver", "kube-apiserver", None, Usage::Server),
        (
            "ca",
            "apiserver-kubelet-client",
            "kube-apiserver-kubelet-client",
            Some("kubeadm:cluster-admins"),
            Usage::Client,
        ),
        ("etcd/ca", "etcd/server", stage.node.name(), None, Usage::Both),
        ("etcd/ca", "etcd/peer", stage.node.name(), None, Usage::Both),
        ("etcd/ca", "etcd/healthcheck-client", "kube-etcd-healthcheck-client", None, Usage::Client),
        ("etcd/ca", "apiserver-etcd-client", "kube-apiserver-etcd-client", None, Usage::Client),
        ("front-proxy-ca", "front-proxy-client", "front-proxy-client", None, Usage::Client),
    ];
    for (authority, file, name, organization, usage) in leaves {
        let sans = if usage == Usage::Client { &[] } else { &names[..] };
        let pair = Authority::load(&pki.join(authority))?.leaf(name, organization, usage, sans)?;
        stage.put(&format!("/etc/kubernetes/pki/{file}.crt"), &pair.cert)?;
        stage.put(&format!("/etc/kubernetes/pki/{file}.key"), &pair.key)?;
    }
    let path = "/etc/kubernetes/controller-manager.conf";
    stage.put(path, &renewed(stage, path)?)
}

/// Q4: after a renewal, what a healthy process has loaded is the new normal.
#[tokio::test]
async fn q4_after_a_renewal_and_a_restart_of_every_pod_all_is_cured_as_before() -> Result<()> {
    let stage = Stage::with(&quick(&[NO_DEADLINE])).await?;
    let manager = Component::ControllerManager;
    renew_all(&stage)?;
    // One after the other is taken out and put back, as the documentation of kubeadm says.
    for component in Component::ALL {
        let text = stage.manifest(component)?;
        let before = stage.running(component).await?;
        let aside = stage.node.path("/root").join(component.file());
        fs::create_dir_all(aside.parent().context("a directory")?)?;
        fs::rename(stage.node.manifest_path(&component.file()), &aside)?;
        let began = std::time::Instant::now();
        while stage.running(component).await?.is_some() {
            ensure!(began.elapsed() < SOON, "{component} does not go:\n{}", stage.story());
            sleep(Duration::from_millis(100)).await;
        }
        stage.write(&component.file(), &text)?;
        stage.runs_anew(component, &before).await?;
    }
    stage.all_serve().await?;
    for component in Component::ALL {
        stage.until(component, "healthy", |c| is(c, "verdict", "healthy") && is(c, "state", "steady")).await?;
    }
    stage.told("kube-controller-manager: renewed keys or certificates are in use").await?;
    let private = copies(&stage.node, "PRIVATE KEY")?;
    ensure!(private.is_empty(), "copies of a private key: {private:?}");

    let before = stage.running(manager).await?;
    let told = stage.times_told("kube-controller-manager: restarting its container");
    stage.signal(manager, "STOP").await?;
    let began = std::time::Instant::now();
    while stage.times_told("kube-controller-manager: restarting its container") == told {
        let explained = stage.node.lastgood(&["explain", manager.name(), "-o", "json"]).await?.stdout;
        // What happened before the last restart may have been said of the keys; what is wrong now is not.
        let now: serde_json::Value = serde_json::from_str(&explained).with_context(|| explained.clone())?;
        let now = &now["items"][0];
        ensure!(now["verdict"].is_string(), "{explained}");
        let blamed =
            [&now["cause"], &now["next"], &now["evidence"]].iter().any(|said| said.to_string().contains("key"));
        ensure!(!blamed, "the renewal is blamed:\n{explained}");
        ensure!(began.elapsed() < SOON, "it is not restarted:\n{explained}\n{}", stage.story());
        sleep(Duration::from_millis(200)).await;
    }
    eprintln!("restarted {:?} after it was stopped", began.elapsed());
    stage.runs_anew(manager, &before).await?;
    stage.all_serve().await?;
    ensure!(stage.times_told("RollingBack") == 0, "{}", stage.story());
    stage.the_same_after_a_restart().await
}

#[tokio::test]
async fn q5_what_is_newer_than_its_process_at_first_sight_is_unproven_and_replaces_nothing() -> Result<()> {
    let node = Node::builder().scale(0.1).start().await?;
    node.up().await?;
    node.put_data("/lab/kept", "written before").await?;
    let scheduler = Component::Scheduler;
    // Two things changed beside processes that go on: a kubeconfig, and a manifest rewritten to the same pod.
    let path = node.path("/etc/kubernetes/controller-manager.conf");
    let text = fs::read_to_string(&path)?;
    fs::write(&path, &text)?;
    node.edit_manifest(&scheduler.file(), |text| format!("# looked at by a person\n{text}"))?;
    let mut stage = Stage { node };
    stage.node.spawn_agent(&quick(&[])).await?;
    for proven in [Component::Etcd, API] {
        stage.steady_on(proven, 1).await?;
    }
    for unproven in [Component::ControllerManager, scheduler] {
        let seen = stage.until(unproven, "unproven", |c| c.to_string().contains("unproven")).await?;
        ensure!(is(&seen, "state", "adopting"), "{seen}");
    }

    // It replaces nothing: the broken file stays what it is, and that is said.
    let good = stage.manifest(scheduler)?;
    stage.write(&scheduler.file(), "no manifest at all: {\n")?;
    stage.told("no generation of kube-scheduler is known-good yet").await?;
    ensure!(stage.manifest(scheduler)? != good, "put back by whom?");
    stage.write(&scheduler.file(), &good)?;

    // A process that has read it proves it.
    for component in [Component::ControllerManager, scheduler] {
        stage.crash(component).await?;
        stage.steady_on(component, 1).await?;
    }
    stage.the_same_after_a_restart().await
}

/// The kubeconfig with a new key, and a certificate for it of the same name by the same authority.
pub(crate) fn renewed(stage: &Stage, path: &str) -> Result<String> {
    let dir = stage.node.path("/tmp/renewed");
    fs::create_dir_all(&dir)?;
    let pki = stage.node.path("/etc/kubernetes/pki");
    let run = |args: &[&str]| -> Result<()> {
        let out = Command::new("openssl").args(args).current_dir(&dir).output().context("cannot run openssl")?;
        ensure!(out.status.success(), "openssl {args:?}: {}", String::from_utf8_lossy(&out.stderr));
        Ok(())
    };
    let (ca, ca_key) = (pki.join("ca.crt").display().to_string(), pki.join("ca.key").display().to_string());
    fs::write(dir.join("ext"), "extendedKeyUsage=clientAuth\n")?;
    run(&[
        "req",
        "-new",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        "key",
        "-out",
        "csr",
        "-subj",
        "/CN=system:kube-controller-manager",
    ])?;
    run(&[
        "x509",
        "-req",
        "-in",
        "csr",
        "-CA",
        &ca,
        "-CAkey",
        &ca_key,
        "-set_serial",
        "4711",
        "-days",
        "300",
        "-extfile",
        "ext",
        "-out",
        "crt",
    ])?;
    let pair = (encoded(&dir.join("crt"))?, encoded(&dir.join("key"))?);
    Ok(with_pair(&fs::read_to_string(stage.file(path))?, &pair))
}

fn encoded(path: &Path) -> Result<String> {
    use base64::Engine as _;
    let bytes = fs::read(path).with_context(|| path.display().to_string())?;
    Ok(base64::engine::general_purpose::STANDARD.encode(bytes))
}

/// The kubeconfig with another certificate and key.
fn with_pair(text: &str, (certificate, key): &(String, String)) -> String {
    let lines = text.lines().map(|line| match line.trim_start() {
        line if line.starts_with("client-certificate-data:") => format!("    client-certificate-data: {certificate}\n"),
        line if line.starts_with("client-key-data:") => format!("    client-key-data: {key}\n"),
        _ => format!("{line}\n"),
    });
    lines.collect()
}

/// The containers that the kubelet has made for a component are no reason to restart it, whatever is wrong with them.
const RESTARTED: &str = "the kubelet is restarted";

#[tokio::test]
async fn a_directory_that_the_runtime_made_for_a_missing_file_goes_with_the_candidate() -> Result<()> {
    let stage = Stage::with(&quick(&[NO_DEADLINE])).await?;
    let path = "/etc/kubernetes/audit/policy.yaml";
    let good = stage.manifest(API)?;
    let flag = "--audit-policy-file=/etc/kubernetes/audit/policy.yaml";
    stage.node.edit_manifest(&API.file(), |text| with(text, &[flag], &[(path, "\"\"")]))?;
    // containerd makes it, and the directory above it.
    let began = std::time::Instant::now();
    while !stage.file(path).is_dir() {
        ensure!(began.elapsed() < SOON, "the runtime made no directory:\n{}", stage.story());
        sleep(Duration::from_millis(20)).await;
    }
    stage.told("generation 2 is quarantined").await?;
    stage.told(path).await?;
    stage.back(API, &good).await?;
    stage.steady_on(API, 1).await?;
    ensure!(stage.times_told("generation 3") == 0, "one candidate:\n{}", stage.story());
    ensure!(stage.times_told(RESTARTED) == 0, "no restart of the kubelet:\n{}", stage.story());
    let began = std::time::Instant::now();
    while stage.file("/etc/kubernetes/audit").exists() {
        ensure!(began.elapsed() < SOON, "the directories are not removed:\n{}", stage.story());
        sleep(Duration::from_millis(50)).await;
    }
    stage.all_serve().await?;
    stage.the_same_after_a_restart().await
}
