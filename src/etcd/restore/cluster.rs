//! The cluster that a restore creates: its members and IDs.
//!
//! ```text
//!   member ID    first 8 bytes of SHA-1( its peer URLs, sorted, end to end ‖ token )        membership/member.go
//!   cluster ID   first 8 bytes of SHA-1( member IDs, sorted, big endian )                   membership/cluster.go
//! ```
//!
//! The URLs are hashed and compared as text, exactly as written: no name is resolved. Another token changes every ID,
//! so that no member of the old cluster is taken for one of the new.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;
use sha1::{Digest as _, Sha1};

/// More members than any cluster has; etcd advises seven at most.
const MAX_MEMBERS: usize = 100;
/// What etcd takes as the scheme of a peer URL.
const SCHEMES: [&str; 4] = ["http", "https", "unix", "unixs"];

/// A member of the new cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct NewMember {
    pub id: u64,
    /// Its name (`--name`).
    pub name: String,
    /// Where its peers reach it, sorted.
    pub peer_urls: Vec<String>,
}

impl fmt::Display for NewMember {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}; ID {:x})", self.name, self.peer_urls.join(", "), self.id)
    }
}

/// The new cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct NewCluster {
    pub id: u64,
    /// What the IDs are made with.
    pub token: String,
    /// Its members, by ID.
    pub members: Vec<NewMember>,
    /// The one whose data directory is built here.
    pub me: u64,
}

/// Why these flags make no cluster: a sentence that names what is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NoCluster(pub String);

impl NewCluster {
    /// Of `--initial-cluster` (`name=url,name=url …`; a name with several URLs comes several times), the token, `--name`
    /// and `--initial-advertise-peer-urls`; where those URLs are not given, they are the ones of that name.
    ///
    /// # Errors
    /// An ill-formed or doubled URL, a name that is not in the cluster, advertised URLs that are not its.
    pub fn new(initial: &str, token: &str, name: &str, advertised: Option<&str>) -> Result<Self, NoCluster> {
        let mut by_name = BTreeMap::<String, Vec<String>>::new();
        let mut taken = BTreeSet::new();
        for part in initial.split(',').filter(|part| !part.is_empty()) {
            let (name, url) = part.split_once('=').unwrap_or((part, ""));
            let url = peer_url(url)?;
            if !taken.insert(url.clone()) {
                return Err(NoCluster(format!("--initial-cluster names {url} twice")));
            }
            by_name.entry(name.to_owned()).or_default().push(url);
        }
        let Some(mine) = by_name.get_mut(name) else {
            let names: Vec<&str> = by_name.keys().map(String::as_str).collect();
            return Err(NoCluster(format!(
                "--name {name} is not in --initial-cluster, which names {}",
                if names.is_empty() { "nobody".to_owned() } else { names.join(", ") }
            )));
        };
        mine.sort();
        if let Some(advertised) = advertised {
            let mut urls = advertised.split(',').map(peer_url).collect::<Result<Vec<_>, _>>()?;
            urls.sort();
            if urls != *mine {
                let (urls, mine) = (urls.join(","), mine.join(","));
                return Err(NoCluster(format!(
                    "--initial-advertise-peer-urls {urls} is not what --initial-cluster says of {name}: {mine}"
                )));
            }
        }
        let mut me = 0;
        let mut members = Vec::new();
        for (named, mut peer_urls) in by_name {
            peer_urls.sort();
            let id = member_id(&peer_urls, token);
            if named == name {
                me = id;
            }
            members.push(NewMember { id, name: named, peer_urls });
        }
        if members.len() > MAX_MEMBERS {
            return Err(NoCluster(format!("--initial-cluster names {} members, {MAX_MEMBERS} at most", members.len())));
        }
        members.sort_by_key(|member| member.id);
        let ids: Vec<u64> = members.iter().map(|member| member.id).collect();
        Ok(Self { id: cluster_id(&ids), token: token.to_owned(), members, me })
    }

    /// How many members it has: the index of the last entry of the log that a restore writes.
    pub fn size(&self) -> u64 {
        self.members.len() as u64
    }

    /// The IDs, ascending.
    pub fn ids(&self) -> impl Iterator<Item = u64> + '_ {
        self.members.iter().map(|member| member.id)
    }

    /// As `--initial-cluster`.
    pub fn initial(&self) -> String {
        let members = self.members.iter();
        let pairs = members.flat_map(|member| member.peer_urls.iter().map(move |url| format!("{}={url}", member.name)));
        pairs.collect::<Vec<_>>().join(",")
    }
}

/// A peer URL as etcd takes it (`types.NewURLs`): scheme://host:port, and nothing behind it.
///
/// # Errors
/// What is wrong with it.
pub(super) fn peer_url(text: &str) -> Result<String, NoCluster> {
    let text = text.trim();
    let wrong = |why: &str| Err(NoCluster(format!("{text:?} is no peer URL: {why}; https://10.0.0.1:2380 is one")));
    let Some((scheme, rest)) = text.split_once("://") else { return wrong("it has no scheme") };
    let scheme = scheme.to_ascii_lowercase();
    if !SCHEMES.contains(&scheme.as_str()) {
        return wrong("the scheme must be http, https, unix or unixs");
    }
    if rest.contains(['/', '?', '#']) {
        return wrong("nothing may follow the port, not even a slash");
    }
    // What Go would percent-encode, and so hash otherwise than it is written.
    if let Some(odd) = rest.chars().find(|c| !c.is_ascii_alphanumeric() && !"-._~:[]".contains(*c)) {
        return wrong(&format!("{odd:?} belongs neither to a host nor to a port"));
    }
    let Some((host, port)) = rest.rsplit_once(':') else { return wrong("it has no port") };
    let is_v6 = host.starts_with('[') && host.ends_with(']');
    if host.is_empty() || (!is_v6 && host.contains([':', '[', ']'])) {
        return wrong("it has no host, or an IPv6 address without brackets");
    }
    if scheme.starts_with("http") && port.parse::<u16>().is_err() {
        return wrong("its port is no number up to 65535");
    }
    Ok(format!("{scheme}://{rest}"))
}

/// A member's ID, from its sorted peer URLs.
fn member_id(peer_urls: &[String], token: &str) -> u64 {
    let mut sha = Sha1::new();
    peer_urls.iter().for_each(|url| sha.update(url));
    sha.update(token);
    first(sha)
}

/// A cluster's ID, from its members', ascending.
fn cluster_id(members: &[u64]) -> u64 {
    let mut sha = Sha1::new();
    members.iter().for_each(|id| sha.update(id.to_be_bytes()));
    first(sha)
}

fn first(sha: Sha1) -> u64 {
    sha.finalize().iter().take(8).fold(0, |id, byte| id << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(initial: &str, name: &str, advertised: Option<&str>) -> Result<NewCluster, String> {
        NewCluster::new(initial, "t", name, advertised).map_err(|NoCluster(why)| why)
    }

    #[test]
    fn flags_that_make_no_cluster_are_told_apart() {
        for (initial, name, advertised, why) in [
            ("", "a", None, "names nobody"),
            ("b=http://h:1", "a", None, "--name a is not in --initial-cluster, which names b"),
            ("a=http://h:1,b=http://h:1", "a", None, "names http://h:1 twice"),
            ("a=http://h:1", "a", Some("http://h:2"), "is not what --initial-cluster says of a: http://h:1"),
            ("a=http://h:1,a=http://h:2", "a", Some("http://h:2"), "says of a: http://h:1,http://h:2"),
            ("a=h:1", "a", None, "it has no scheme"),
            ("a", "a", None, "it has no scheme"),
            ("a=ftp://h:1", "a", None, "the scheme must be"),
            ("a=http://h:1/", "a", None, "nothing may follow the port"),
            ("a=http://h", "a", None, "it has no port"),
            ("a=http://h:port", "a", None, "its port is no number"),
            ("a=http://h:70000", "a", None, "its port is no number"),
            ("a=http://:1", "a", None, "it has no host"),
            ("a=http://::1:1", "a", None, "an IPv6 address without brackets"),
            ("a=http://ü:1", "a", None, "belongs neither to a host"),
        ] {
            let said = new(initial, name, advertised).unwrap_err();
            assert!(said.contains(why), "{initial} {name} {advertised:?}: {said}");
        }
        let cluster =
            new("a=HTTP://[::1]:2,b=https://h:1,a=http://h:1,", "a", Some("http://h:1,http://[::1]:2")).unwrap();
        assert_eq!(cluster.size(), 2);
        assert!(cluster.initial().contains("a=http://[::1]:2,a=http://h:1"), "{}", cluster.initial());
    }
}
