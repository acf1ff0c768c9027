//! The interfaces that led to peers at `farewell start`, and whether they are still up.
//!
//! When a tunnel goes down, packets to the addresses behind it take the next best route, and whoever has the address
//! there answers. Over https the certificate reveals an impostor; over plain http nothing does, and it receives the
//! token.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

use super::resolver::NameCache;
use crate::sys::routes;

/// The interface that led to each address.
#[derive(Clone, Debug, Default)]
pub(super) struct KnownInterfaces(Arc<BTreeMap<IpAddr, String>>);

/// An address that is not connected to, since its interface is gone.
#[derive(Debug)]
pub(super) struct LostInterface {
    address: IpAddr,
    interface: String,
}

impl fmt::Display for LostInterface {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LostInterface { address, interface } = self;
        write!(
            out,
            "{interface}, the interface that led to {address} at `farewell start`, is gone or down, and over plain \
             http another machine could answer now: nothing was sent"
        )
    }
}

impl std::error::Error for LostInterface {}

impl From<LostInterface> for ureq::Error {
    fn from(lost: LostInterface) -> Self {
        ureq::Error::Other(Box::new(lost))
    }
}

impl KnownInterfaces {
    pub(super) fn new(ways: BTreeMap<IpAddr, String>) -> KnownInterfaces {
        // One table of interfaces for all addresses.
        KnownInterfaces(Arc::new(ways))
    }

    /// Those of `addresses` to which a connection may be made.
    pub(super) fn open(&self, addresses: &[SocketAddr]) -> Result<Vec<SocketAddr>, LostInterface> {
        let way = |address: &SocketAddr| self.0.get(&address.ip().to_canonical());
        if addresses.iter().all(|address| way(address).is_none()) {
            return Ok(addresses.to_vec());
        }
        // If the kernel does not answer, every interface counts as up.
        let Ok(up) = routes::interfaces_up() else {
            return Ok(addresses.to_vec());
        };
        let mut lost = None;
        let mut open = Vec::new();
        for address in addresses {
            match way(address).filter(|interface| !up.contains(*interface)) {
                None => open.push(*address),
                Some(interface) => {
                    lost = Some(LostInterface {
                        address: address.ip(),
                        interface: interface.clone(),
                    });
                }
            }
        }
        match lost {
            Some(lost) if open.is_empty() => Err(lost),
            _ => Ok(open),
        }
    }
}

/// Checks interfaces before each request, even on a kept connection. The client resolves names here before it knows
/// whether it needs a new connection; the connector does the real lookup.
#[derive(Debug)]
pub(super) struct InterfaceCheck {
    pub(super) names: NameCache,
    pub(super) ways: KnownInterfaces,
}

impl Resolver for InterfaceCheck {
    fn resolve(
        &self,
        uri: &Uri,
        _: &Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let port = uri.port_u16().unwrap_or(80);
        let addresses = match host.parse::<IpAddr>() {
            Ok(address) => vec![SocketAddr::new(address, port)],
            Err(_) => self.names.known(host, port).unwrap_or_default(),
        };
        if !addresses.is_empty() {
            self.ways.open(&addresses)?;
        }
        Ok(self.empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_whose_interface_is_gone_are_closed() {
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        let known = [(ip("10.9.0.1"), "no-such-0"), (ip("10.9.0.2"), "lo")];
        let known = known.map(|(address, interface)| (address, interface.to_owned()));
        let ways = KnownInterfaces::new(BTreeMap::from(known));
        let at = |text: &str| SocketAddr::new(ip(text), 80);
        let (gone, up, other) = (at("10.9.0.1"), at("10.9.0.2"), at("10.9.0.3"));
        assert_eq!(ways.open(&[up, other]).expect("open"), [up, other]);
        assert_eq!(ways.open(&[gone, up]).expect("open"), [up]);
        let lost = ways.open(&[gone]).expect_err("gone");
        assert!(
            lost.to_string().starts_with("no-such-0, the interface"),
            "{lost}"
        );
        let mapped = at("::ffff:10.9.0.1");
        assert!(ways.open(&[mapped]).is_err());
        assert_eq!(
            KnownInterfaces::default().open(&[gone]).expect("open"),
            [gone]
        );
    }
}
