//! hostPath volumes: the check of their `type`, as it is done before a pod's sandbox is made. A pod whose file is missing
//! stays Pending with no sandbox at all, and starts when the file appears.

use std::fs::Metadata;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use k8s_openapi::api::core::v1::{HostPathVolumeSource, PodSpec};
use tracing::warn;

use super::manifest::StaticPod;
use super::scale::Scale;

/// First wait between two tries to mount, doubled each time.
const FIRST_RETRY: Duration = Duration::from_millis(500);
/// How long one sync waits for the volumes: `podAttachAndMountTimeout`.
const PATIENCE: Duration = Duration::from_secs(123);

/// Waits until every hostPath of `pod` is what its type says.
///
/// # Errors
/// The kubelet's sentence, after two minutes.
pub async fn mount(pod: &StaticPod, scale: Scale) -> Result<(), String> {
    let give_up = tokio::time::Instant::now() + scale.of(PATIENCE);
    let mut wait = FIRST_RETRY;
    loop {
        let Err((volume, why)) = check(pod.spec()) else {
            return Ok(());
        };
        warn!(pod = %pod.full_name, uid = %pod.uid, volume, why, "FailedMount: MountVolume.SetUp failed for volume");
        if tokio::time::Instant::now() >= give_up {
            return Err(format!("unmounted volumes=[{volume}]: timed out waiting for the condition: {why}"));
        }
        tokio::time::sleep(scale.of(wait)).await;
        wait *= 2;
    }
}

/// The first volume that is not what it should be, and why.
fn check(spec: &PodSpec) -> Result<(), (String, String)> {
    for volume in spec.volumes.iter().flatten() {
        if let Some(host_path) = &volume.host_path {
            check_host_path(host_path).map_err(|why| (volume.name.clone(), why))?;
        }
    }
    Ok(())
}

fn check_host_path(source: &HostPathVolumeSource) -> Result<(), String> {
    let path = Path::new(&source.path);
    let found = std::fs::metadata(path);
    let must_be = |what: &str, is: fn(&Metadata) -> bool| match &found {
        Ok(meta) if is(meta) => Ok(()),
        _ => Err(format!("hostPath type check failed: {} is not a {what}", path.display())),
    };
    let failed = |why: std::io::Error| format!("hostPath {}: {why}", path.display());
    match source.type_.as_deref().unwrap_or_default() {
        "" => Ok(()),
        "DirectoryOrCreate" if found.is_err() => {
            std::fs::create_dir_all(path).map_err(failed)?;
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).map_err(failed)
        }
        "FileOrCreate" if found.is_err() => {
            std::fs::File::create(path).map_err(failed)?;
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).map_err(failed)
        }
        "Directory" | "DirectoryOrCreate" => must_be("directory", Metadata::is_dir),
        "File" | "FileOrCreate" => must_be("file", Metadata::is_file),
        "Socket" => must_be("socket", |meta| meta.file_type().is_socket()),
        "CharDevice" => must_be("character device", |meta| meta.file_type().is_char_device()),
        "BlockDevice" => must_be("block device", |meta| meta.file_type().is_block_device()),
        other => Err(format!("hostPath type {other:?} is unknown")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_at(path: &Path, kind: &str) -> Result<(), String> {
        check_host_path(&HostPathVolumeSource { path: path.display().to_string(), type_: Some(kind.into()) })
    }

    #[test]
    fn a_missing_file_fails_the_pod_unless_it_may_be_created() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("audit.yaml");
        assert!(check_at(&path, "File").expect_err("missing").contains("is not a file"));
        assert_eq!(check_at(&path, ""), Ok(()));
        assert_eq!(check_at(&path, "FileOrCreate"), Ok(()));
        assert_eq!(check_at(&path, "File"), Ok(()));
        assert!(check_at(&path, "DirectoryOrCreate").is_err(), "a file is no directory");
        assert_eq!(check_at(&dir.path().join("a/b"), "DirectoryOrCreate"), Ok(()));
        assert_eq!(check_at(&dir.path().join("a/b"), "Directory"), Ok(()));
    }
}
