//! To which addresses callbacks may go: public ones, and those that the operator allows.
//!
//! Whoever may leave a job may not thereby talk to what only this host can reach. An address is judged as what it leads
//! to: one that embeds another, as those of NAT64 and 6to4 do, is as good as that.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// A network, as in `10.1.0.0/16`, `fd00::/8` or `127.0.0.1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// Why a text is no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no network: write it as in 10.1.0.0/16 or fd00::/8")]
pub struct ParseNetworkError;

impl FromStr for Network {
    type Err = ParseNetworkError;

    fn from_str(text: &str) -> Result<Self, ParseNetworkError> {
        let (address, prefix) =
            text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr = address.parse().map_err(|_| ParseNetworkError)?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let is_number = |text: &&str| text.bytes().all(|byte| byte.is_ascii_digit());
        let prefix = match prefix {
            None => longest,
            Some(text) => {
                Some(text).filter(is_number).and_then(|text| text.parse().ok()).ok_or(ParseNetworkError)?
            }
        };
        if prefix > longest { Err(ParseNetworkError) } else { Ok(Self { address, prefix }) }
    }
}

impl Network {
    /// Whether the address lies in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let differs = u32::from(network) ^ u32::from(address);
                differs.checked_shr(32 - u32::from(self.prefix)).unwrap_or(0) == 0
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let differs = u128::from(network) ^ u128::from(address);
                differs.checked_shr(128 - u32::from(self.prefix)).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Network {
    Network { address: IpAddr::V4(Ipv4Addr::new(a, b, c, d)), prefix }
}

const fn v6(first: u16, second: u16, third: u16, prefix: u8) -> Network {
    Network { address: IpAddr::V6(Ipv6Addr::new(first, second, third, 0, 0, 0, 0, 0)), prefix }
}

/// What is not the public internet, by IANA's registries of special-purpose addresses.
const FORBIDDEN_V4: [Network; 15] = [
    v4(0, 0, 0, 0, 8),
    v4(10, 0, 0, 0, 8),
    v4(100, 64, 0, 0, 10),
    v4(127, 0, 0, 0, 8),
    v4(169, 254, 0, 0, 16),
    v4(172, 16, 0, 0, 12),
    v4(192, 0, 0, 0, 24),
    v4(192, 0, 2, 0, 24),
    v4(192, 88, 99, 0, 24),
    v4(192, 168, 0, 0, 16),
    v4(198, 18, 0, 0, 15),
    v4(198, 51, 100, 0, 24),
    v4(203, 0, 113, 0, 24),
    v4(224, 0, 0, 0, 4),
    // Broadcast, too.
    v4(240, 0, 0, 0, 4),
];

/// The only addresses that are given out as global ones.
const GLOBAL_V6: Network = v6(0x2000, 0, 0, 3);

/// And those of them that are not global.
const FORBIDDEN_V6: [Network; 3] = [
    // Protocol assignments: benchmarking, ORCHID, Teredo, which is looked into before.
    v6(0x2001, 0, 0, 23),
    v6(0x2001, 0x0db8, 0, 32),
    v6(0x3fff, 0, 0, 20),
];

const NAT64: Network = v6(0x0064, 0xff9b, 0, 96);
const SIX_TO_FOUR: Network = v6(0x2002, 0, 0, 16);
const TEREDO: Network = v6(0x2001, 0, 0, 32);

/// Whether a callback may go to `address`, where the operator allows `allowed` besides.
pub(crate) fn may_reach(address: IpAddr, allowed: &[Network]) -> bool {
    let is_allowed = |address: IpAddr| allowed.iter().any(|network| network.contains(address));
    let address = address.to_canonical();
    if is_allowed(address) {
        return true;
    }
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => {
            if let Some(addresses) = embedded(address) {
                return addresses.iter().all(|&inner| is_public_v4(inner) || is_allowed(inner.into()));
            }
            let address = IpAddr::V6(address);
            GLOBAL_V6.contains(address) && !FORBIDDEN_V6.iter().any(|network| network.contains(address))
        }
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    !FORBIDDEN_V4.iter().any(|network| network.contains(address.into()))
}

/// The addresses of the older protocol to which one of the newer leads.
fn embedded(address: Ipv6Addr) -> Option<Vec<Ipv4Addr>> {
    let bits = u128::from(address);
    // By their distance from the end.
    let at = |shift: u32| Ipv4Addr::from(u32::try_from(bits >> shift & u128::from(u32::MAX)).unwrap_or(0));
    let ip = IpAddr::V6(address);
    if NAT64.contains(ip) {
        return Some(vec![at(0)]);
    }
    if SIX_TO_FOUR.contains(ip) {
        return Some(vec![at(80)]);
    }
    if TEREDO.contains(ip) {
        // The server's, and the client's with its bits turned.
        return Some(vec![at(64), Ipv4Addr::from(!u32::from(at(0)))]);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn may(address: &str, allowed: &[&str]) -> bool {
        let allowed: Vec<Network> = allowed.iter().map(|text| text.parse().unwrap()).collect();
        may_reach(address.parse().unwrap(), &allowed)
    }

    #[test]
    fn only_public_addresses_may_be_reached() {
        for public in [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "128.0.0.1",
            "169.253.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.17.0.1",
            "198.20.0.1",
            "223.255.255.255",
            "2606:4700:4700::1111",
            "2a00:1450::1",
            "2001:4860::8888",
            "64:ff9b::8.8.8.8",
            "2002:0808:0808::1",
            "::ffff:8.8.8.8",
            "2001:0:808:808::f7f7:f7f7",
        ] {
            assert!(may(public, &[]), "{public}");
        }
        for forbidden in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::2",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "fc00::1",
            "fd00::1",
            "fd00:ec2::254",
            "ff02::1",
            "2001:db8::1",
            "2001:2::1",
            "2001:10::1",
            "2001:20::1",
            "3fff::1",
            "100::1",
            "5f00::1",
            "64:ff9b:1::1",
            "64:ff9b::10.0.0.1",
            "64:ff9b::127.0.0.1",
            "64:ff9b::169.254.169.254",
            "2002:7f00:1::",
            "2002:a00:1::1",
            "2002:c0a8:101::1",
            "2001:0:808:808::80ff:fffe",
            "2001:0:a00:1::f7f7:f7f7",
            "4000::1",
        ] {
            assert!(!may(forbidden, &[]), "{forbidden}");
        }
    }

    #[test]
    fn what_the_operator_allows_may_be_reached_and_nothing_beside_it() {
        assert!(may("127.0.0.1", &["127.0.0.0/8"]));
        assert!(may("::ffff:127.0.0.1", &["127.0.0.0/8"]));
        assert!(may("64:ff9b::10.1.2.3", &["10.1.0.0/16"]));
        assert!(may("fd00::1", &["fd00::/8"]));
        assert!(may("10.0.0.7", &["192.168.0.0/16", "10.0.0.7"]));
        assert!(may("10.0.0.7", &["0.0.0.0/0"]) && may("::1", &["::/0"]));
        for (address, allowed) in [
            ("10.0.0.8", "10.0.0.7"),
            ("10.2.0.1", "10.1.0.0/16"),
            ("::1", "127.0.0.0/8"),
            ("127.0.0.1", "::/0"),
            ("2001:0:a00:1::80ff:fffe", "10.0.0.0/8"),
        ] {
            assert!(!may(address, &[allowed]), "{address} {allowed}");
        }
    }

    #[test]
    fn networks_are_read_strictly() {
        for wrong in [
            "",
            "10.0.0.0/33",
            "::/129",
            "10.0.0/8",
            "10.0.0.0/",
            "10.0.0.0/-1",
            "10.0.0.0/+8",
            "host/8",
            "1.2.3.4/8/8",
        ] {
            assert_eq!(wrong.parse::<Network>(), Err(ParseNetworkError), "{wrong}");
        }
    }
}
