//! Checks for values that contradict each other. A mistake names the key that a file sets, since a default is no
//! mistake.

use std::path::Path;
use std::time::Duration;

use super::{Loaded, Mistake, duration};

/// The kubelet reads its directory again every 20 s (`fileCheckFrequency`) and then drops the pod of a broken file.
const KUBELET_SCAN: Duration = Duration::from_secs(20);

/// Adds what is wrong with the merged values.
pub(super) fn contradictions(loaded: &Loaded, first: &Path, mistakes: &mut Vec<Mistake>) {
    let mut check = Check { loaded, first, mistakes };
    check.durations();
    check.paths();
    check.metrics();
    check.remote();
}

struct Check<'c> {
    loaded: &'c Loaded,
    first: &'c Path,
    mistakes: &'c mut Vec<Mistake>,
}

impl Check<'_> {
    fn durations(&mut self) {
        let settings = &self.loaded.settings;
        let (policy, passes) = (&settings.policy, &settings.agent_loop);
        if passes.longest_gap <= passes.interval {
            self.wrong(
                ["loop.longest-gap", "loop.interval"],
                format!(
                    "{} is not longer than loop.interval ({}): no time would ever count as watched",
                    duration::print(passes.longest_gap),
                    duration::print(passes.interval)
                ),
            );
        }
        if passes.busy_interval > passes.interval {
            self.wrong(
                ["loop.busy-interval", "loop.interval"],
                format!(
                    "{} is longer than loop.interval ({}): a replacement would be watched less closely than a quiet node",
                    duration::print(passes.busy_interval),
                    duration::print(passes.interval)
                ),
            );
        }
        if policy.all_deleted_grace < policy.deleted_grace {
            self.wrong(
                ["rollback.all-deleted-grace", "rollback.deleted-grace"],
                format!(
                    "{} is shorter than rollback.deleted-grace ({}): several deletions at once look intended, so they \
                     wait longer",
                    duration::print(policy.all_deleted_grace),
                    duration::print(policy.deleted_grace)
                ),
            );
        }
        if policy.debounce >= KUBELET_SCAN {
            self.wrong(
                ["candidate.debounce"; 2],
                format!(
                    "{} is not below the kubelet's scan of 20 s: it would drop the pod of a broken file before \
                     lastgood reads the file",
                    duration::print(policy.debounce)
                ),
            );
        }
    }

    fn metrics(&mut self) {
        let Some(file) = &self.loaded.settings.metrics.textfile else { return };
        if file.extension().is_none_or(|ending| ending != "prom") {
            let told = format!("{} does not end in .prom: node_exporter reads no other file", file.display());
            self.wrong(["metrics.textfile"; 2], told);
        }
    }

    fn paths(&mut self) {
        let paths = &self.loaded.settings.paths;
        let snapshots = self.loaded.settings.snapshot_dir();
        if let Some(manifests) = &paths.manifests {
            for (key, path) in [
                ("paths.staging", &paths.staging),
                ("paths.inactive-manifests", &paths.inactive_manifests),
                ("paths.state", &paths.state),
                ("paths.run", &paths.run),
                ("snapshots.directory", &snapshots),
            ]
            .into_iter()
            .chain(self.loaded.settings.metrics.textfile.iter().map(|file| ("metrics.textfile", file)))
            {
                if path.starts_with(manifests) {
                    self.wrong(
                        [key, "paths.manifests"],
                        format!(
                            "{} is inside paths.manifests ({}): the kubelet starts a pod from every file there",
                            path.display(),
                            manifests.display()
                        ),
                    );
                }
            }
        }
        let own = [
            ("paths.staging", &paths.staging),
            ("paths.inactive-manifests", &paths.inactive_manifests),
            ("paths.state", &paths.state),
            ("snapshots.directory", &snapshots),
        ];
        for (at, (key, path)) in own.iter().enumerate() {
            for (other_key, other) in &own[at + 1..] {
                if path == other {
                    self.wrong(
                        [key, other_key],
                        format!("{} is {other_key} as well: give each its own", path.display()),
                    );
                }
            }
        }
    }

    fn remote(&mut self) {
        let remote = &self.loaded.settings.snapshots.remote;
        let plain = remote.endpoint.as_deref().is_some_and(|endpoint| endpoint.starts_with("http://"));
        if plain && !remote.allow_http {
            self.wrong(
                ["snapshots.remote.endpoint", "snapshots.remote.allow-http"],
                "has no TLS, so everybody on the network path can read every secret of the cluster: write https://, or \
                 set snapshots.remote.allow-http = true"
                    .to_owned(),
            );
        }
    }

    /// Adds a mistake at the first of these keys that a file gave.
    fn wrong(&mut self, keys: [&'static str; 2], what: String) {
        let given = keys.into_iter().find_map(|key| self.loaded.origins.get(key).map(|origin| (key, origin)));
        self.mistakes.push(match given {
            Some((key, origin)) => Mistake {
                line: Some(origin.line),
                key: Some(keys[0].to_owned()),
                ..Mistake::of_file(
                    origin.file.clone(),
                    if key == keys[0] { what } else { format!("{what} ({key} is given here)") },
                )
            },
            None => Mistake { key: Some(keys[0].to_owned()), ..Mistake::of_file(self.first.to_owned(), what) },
        });
    }
}
