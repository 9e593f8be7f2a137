//! One location in object storage, and one unit of work there with its deadline: every request to a store goes through
//! this module.

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStoreExt as _};
use tokio::time::{Instant, timeout_at};

use super::credentials::Credentials;
use super::open::{Store, open};
use super::trouble::{Trouble, meaning};
use crate::config::object_url::ObjectUrl;
use crate::config::settings;

pub struct Remote {
    pub(super) store: Arc<dyn Store>,
    /// Where uploads that are under way are recorded.
    pub(super) records: Option<PathBuf>,
    pub(super) endpoint: Option<String>,
    place: ObjectUrl,
    credentials: Credentials,
    limit: Duration,
    deadline: Instant,
}

/// The place alone: what the library prints of itself is not ours to vouch for.
impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("place", &self.place).finish_non_exhaustive()
    }
}

impl Remote {
    /// Opens it, for work that has snapshots.remote.timeout from now on. Nothing is asked yet.
    ///
    /// # Errors
    /// [`Trouble::Setup`].
    pub fn open(settings: &settings::Remote, place: &ObjectUrl) -> Result<Self, Trouble> {
        let credentials = match &settings.credentials_file {
            Some(file) => Credentials::read(file, place.scheme),
            None => Ok(Credentials::of_environment(place.scheme)),
        };
        let credentials = credentials.map_err(Trouble::Setup)?;
        let store = open(settings, place, &credentials).map_err(Trouble::Setup)?;
        let deadline = Instant::now() + settings.timeout;
        let (records, endpoint) = (None, settings.endpoint.clone());
        Ok(Self { store, records, endpoint, place: place.clone(), credentials, limit: settings.timeout, deadline })
    }

    /// The same, which records in a directory of snapshots what it uploads in parts.
    #[must_use]
    pub fn recording(self, dir: &std::path::Path) -> Self {
        Self { records: Some(dir.to_owned()), ..self }
    }

    /// Where it is.
    pub fn place(&self) -> &ObjectUrl {
        &self.place
    }

    /// The object of this name there.
    pub(super) fn path(&self, name: &str) -> Path {
        match self.place.path.as_str() {
            "" => Path::from(name),
            prefix => Path::from(format!("{prefix}/{name}")),
        }
    }

    /// What something there is called, for people.
    pub(super) fn called(&self, name: &str) -> String {
        format!("{}/{name}", self.place)
    }

    /// Does something there, before the deadline.
    pub(super) async fn within<T>(
        &self,
        what: &str,
        work: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, Trouble> {
        match timeout_at(self.deadline, work).await {
            Ok(done) => done.map_err(|error| self.meaning(what, &error)),
            Err(_) => Err(self.too_long(what)),
        }
    }

    pub(super) fn meaning(&self, what: &str, error: &object_store::Error) -> Trouble {
        let trouble = meaning(what, error, |text| self.credentials.without(text));
        match trouble {
            // The library asks the machine's own role then, by an address that only clouds have.
            Trouble::Failed(words) if self.credentials.is_empty() => Trouble::Denied(format!(
                "{words} (no credentials are given, so lastgood asked for the role of the machine)"
            )),
            trouble => trouble,
        }
    }

    fn too_long(&self, what: &str) -> Trouble {
        Trouble::TooLong { what: what.to_owned(), limit: self.limit }
    }

    /// Everything directly below it, by name, in the order of the names.
    pub(super) async fn objects(&self) -> Result<Vec<(String, ObjectMeta)>, Trouble> {
        let prefix = Path::from(self.place.path.as_str());
        let prefix = (!self.place.path.is_empty()).then_some(&prefix);
        let what = format!("{}: the listing failed", self.place);
        let listed = self.within(&what, self.store.list_with_delimiter(prefix)).await?;
        let named = listed.objects.into_iter().filter_map(|meta| Some((meta.location.filename()?.to_owned(), meta)));
        let mut named: Vec<_> = named.collect();
        named.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(named)
    }

    /// Whether there is an object of this name.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn holds(&self, name: &str) -> Result<bool, Trouble> {
        let path = self.path(name);
        let what = format!("{}: the head request failed", self.called(name));
        match self.within(&what, self.store.head(&path)).await {
            Ok(_) => Ok(true),
            Err(Trouble::Absent(_)) => Ok(false),
            Err(trouble) => Err(trouble),
        }
    }

    /// Removes an object; one that is gone already is removed.
    pub(super) async fn delete(&self, name: &str) -> Result<(), Trouble> {
        let path = self.path(name);
        let what = format!("{}: the deletion failed", self.called(name));
        match self.within(&what, self.store.delete(&path)).await {
            Err(Trouble::Absent(_)) => Ok(()),
            done => done,
        }
    }
}
