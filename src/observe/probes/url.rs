//! URLs in the notation of etcd's flags.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use super::connect::Address;
use crate::observe::environment::reachable;

/// `scheme://host:port`, all that flags of etcd hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Url {
    pub(super) https: bool,
    pub(super) address: Address,
}

impl Url {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (https, host, port) = Self::split(text)?;
        Some(Self { https, address: Address { host: reachable(host), port } })
    }

    /// Whether it has TLS, and the address that a server at it binds: none where it names a host.
    pub(super) fn bound(text: &str) -> Option<(bool, Option<IpAddr>)> {
        let (https, host, _) = Self::split(text)?;
        let address = match host.trim_matches(['[', ']']) {
            "" => Some(Ipv6Addr::UNSPECIFIED.into()),
            "localhost" => Some(Ipv4Addr::LOCALHOST.into()),
            host => host.parse().ok(),
        };
        Some((https, address))
    }

    fn split(text: &str) -> Option<(bool, &str, u16)> {
        let (scheme, rest) = text.trim().split_once("://")?;
        let https = match scheme {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let authority = rest.split('/').next()?;
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
            _ => (authority, if https { 443 } else { 80 }),
        };
        Some((https, host, port))
    }

    pub(super) fn ip(&self) -> Option<IpAddr> {
        self.address.bare().parse().ok()
    }

    pub(super) fn is_loopback(&self) -> bool {
        self.ip().is_some_and(|ip| ip.is_loopback())
    }

    /// An address one can bind to is an address of this node.
    pub(super) fn is_of_this_node(&self) -> bool {
        self.ip().is_some_and(|ip| ip.is_loopback() || UdpSocket::bind((ip, 0)).is_ok())
    }
}
