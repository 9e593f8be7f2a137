//! How the runtime makes sandboxes, by its own word (`Status`, verbose), and where containerd's configuration keeps it from
//! serving CRI at all.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tonic::transport::Channel;

use crate::cri::v1::runtime_service_client::RuntimeServiceClient;
use crate::cri::v1::{StatusRequest, VersionRequest};
use crate::model::sandbox_setup::{CgroupDriver, CriDisabled};
use crate::observe::file;
use crate::sys::proc::Process;

/// A configuration of containerd is some kilobytes.
const MAX_CONFIG: u64 = 1 << 20;
/// Where containerd looks when nobody says otherwise.
const CONTAINERD_CONFIG: &str = "/etc/containerd/config.toml";
/// The names that its CRI has had as a plugin.
const CRI_PLUGINS: [&str; 4] =
    ["cri", "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime", "io.containerd.cri.v1.images"];

/// What the runtime says of its sandboxes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::observe) struct RuntimeSetup {
    pub(in crate::observe) image: Option<String>,
    pub(in crate::observe) cgroups: Option<CgroupDriver>,
}

/// Asks. Nothing where it does not answer in time.
pub(super) async fn ask(channel: Channel, deadline: Duration) -> Option<RuntimeSetup> {
    let mut client = RuntimeServiceClient::new(channel);
    let answer = tokio::time::timeout(deadline, client.status(StatusRequest { verbose: true })).await.ok()?.ok()?;
    let info = answer.into_inner().info;
    let setup = info.get("config").map_or_else(RuntimeSetup::default, |config| read(config));
    let version =
        tokio::time::timeout(deadline, client.version(VersionRequest::default())).await.ok()?.ok()?.into_inner();
    let told = tells_the_kubelet(&version.runtime_name, &version.runtime_version);
    Some(RuntimeSetup { cgroups: setup.cgroups.filter(|_| !told), ..setup })
}

/// Whether the kubelet asks this runtime for its cgroup driver (`RuntimeConfig`) and goes by it, whatever its own configuration
/// says: kubelets from 1.31 on do, where containerd is of 2.0 or CRI-O of 1.28.
fn tells_the_kubelet(name: &str, version: &str) -> bool {
    let mut numbers = version.trim_start_matches('v').split('.').map_while(|number| number.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    match name {
        "containerd" => version >= (2, 0),
        "cri-o" => version >= (1, 28),
        _ => false,
    }
}

/// containerd's configuration as JSON, or CRI-O's as TOML.
fn read(config: &str) -> RuntimeSetup {
    match serde_json::from_str::<Value>(config) {
        Ok(config) => of_containerd(&config),
        Err(_) => of_crio(config),
    }
}

fn of_containerd(config: &Value) -> RuntimeSetup {
    let image = config.get("sandboxImage").and_then(Value::as_str);
    let containerd = &config["containerd"];
    let name = containerd.get("defaultRuntimeName").and_then(Value::as_str).unwrap_or("runc");
    let options = &containerd["runtimes"][name]["options"];
    let systemd = options.get("SystemdCgroup").or_else(|| config.get("systemdCgroup")).and_then(Value::as_bool);
    // An option that is left out is off.
    let systemd = systemd.or_else(|| options.is_object().then_some(false));
    RuntimeSetup {
        image: image.filter(|image| !image.is_empty()).map(str::to_owned),
        cgroups: systemd.map(|systemd| if systemd { CgroupDriver::Systemd } else { CgroupDriver::Cgroupfs }),
    }
}

fn of_crio(config: &str) -> RuntimeSetup {
    let value = |key: &str| {
        let lines = config.lines().filter_map(|line| line.split_once('='));
        let mut named = lines.filter(|(name, _)| name.trim() == key).map(|(_, value)| value.trim().trim_matches('"'));
        named.next().filter(|value| !value.is_empty()).map(str::to_owned)
    };
    let cgroups = value("cgroup_manager").and_then(|driver| match driver.as_str() {
        "systemd" => Some(CgroupDriver::Systemd),
        "cgroupfs" => Some(CgroupDriver::Cgroupfs),
        _ => None,
    });
    RuntimeSetup { image: value("pause_image"), cgroups }
}

/// The line of the running containerd's configuration that switches its CRI off.
pub(in crate::observe) fn cri_disabled(processes: &[Process]) -> Option<CriDisabled> {
    let containerd = processes.iter().find(|process| process.uid == 0 && process.program() == "containerd");
    let said = containerd.and_then(|process| process.flag("config").or_else(|| process.flag("c")));
    let path = said.map_or_else(|| PathBuf::from(CONTAINERD_CONFIG), PathBuf::from);
    let (bytes, _) = file::read(&path, MAX_CONFIG).ok()?;
    disabled_in(&path, &String::from_utf8_lossy(&bytes))
}

fn disabled_in(path: &Path, text: &str) -> Option<CriDisabled> {
    let table: toml::Table = text.parse().ok()?;
    let disabled = table.get("disabled_plugins")?.as_array()?;
    disabled.iter().filter_map(|name| name.as_str()).find(|name| CRI_PLUGINS.contains(name))?;
    let (line, text) = text.lines().enumerate().find(|(_, line)| line.trim_start().starts_with("disabled_plugins"))?;
    Some(CriDisabled { file: path.to_owned(), line: line + 1, text: text.trim().to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_says_how_it_makes_sandboxes() {
        use CgroupDriver::{Cgroupfs, Systemd};
        let containerd = |options: &str, more: &str| {
            format!(
                r#"{{"containerd":{{"defaultRuntimeName":"runc","runtimes":{{"runc":{{"options":{options}}}}}}}{more}}}"#
            )
        };
        let cases = [
            (containerd(r#"{"SystemdCgroup":true}"#, r#","sandboxImage":"registry.k8s.io/pause:3.6""#), Some("registry.k8s.io/pause:3.6"), Some(Systemd)),
            (containerd(r#"{"SystemdCgroup":false}"#, ""), None, Some(Cgroupfs)),
            (containerd("{}", r#","systemdCgroup":false"#), None, Some(Cgroupfs)),
            (containerd("null", ""), None, None),
            ("[crio.runtime]\ncgroup_manager = \"systemd\"\n[crio.image]\npause_image = \"registry.k8s.io/pause:3.10\"\n".to_owned(), Some("registry.k8s.io/pause:3.10"), Some(Systemd)),
            ("".to_owned(), None, None),
            ("[1,2]".to_owned(), None, None),
        ];
        for (config, image, cgroups) in cases {
            assert_eq!(read(&config), RuntimeSetup { image: image.map(str::to_owned), cgroups }, "{config}");
        }
    }

    #[test]
    fn b09_a_runtime_that_tells_the_kubelet_its_driver_cannot_differ() {
        for (name, version, told) in [
            ("containerd", "1.6.20~ds1", false),
            ("containerd", "v2.1.0", true),
            ("cri-o", "1.27.1", false),
            ("cri-o", "1.30.0", true),
            ("other", "9.9", false),
            ("containerd", "", false),
        ] {
            assert_eq!(tells_the_kubelet(name, version), told, "{name} {version}");
        }
    }

    #[test]
    fn b22_the_line_that_switches_cri_off_is_found() {
        let path = Path::new("/etc/containerd/config.toml");
        let line = |text: &str| disabled_in(path, text).map(|found| found.line);
        assert_eq!(line("disabled_plugins = [\"cri\"]\n"), Some(1));
        assert_eq!(line("version = 2\n\n  disabled_plugins = [\"aufs\", \"io.containerd.grpc.v1.cri\"]\n"), Some(3));
        for right in [
            "",
            "disabled_plugins = []",
            "# disabled_plugins = [\"cri\"]",
            "disabled_plugins = [\"aufs\"]",
            "not toml [",
        ] {
            assert_eq!(line(right), None, "{right}");
        }
    }
}
