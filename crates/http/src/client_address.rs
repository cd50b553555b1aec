//! Where a request comes from.
//!
//! The address is that of who opened the connection, unless that is a proxy in `trusted_proxies`:
//! then `X-Forwarded-For` counts as well, which each proxy adds to at the right. It is read from
//! there, and no further than trusted proxies vouch for it, so that what a client writes into it
//! itself has no effect. `Forwarded` (RFC 7239) is not read: a proxy that sets one of the two hands
//! on what the client wrote into the other.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use axum::http::{Extensions, HeaderMap};
use ipnet::IpNet;

use crate::connection::Line;
use crate::header_names::X_FORWARDED_FOR;

/// The address a request comes from; `None` if nobody knows who opened its connection, as in an
/// application that serves the router by itself.
pub(crate) fn client_address(
    extensions: &Extensions,
    headers: &HeaderMap,
    trusted: &[IpNet],
) -> Option<IpAddr> {
    let peer = extensions.get::<Line>()?.peer?.ip().to_canonical();
    Some(forwarded_for(peer, headers, trusted))
}

/// What counts as one client: an IPv4 address, or an IPv6 network of 64 bits, which is what a client
/// has at its disposal (RFC 6177).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct AddressKey(IpAddr);

impl From<IpAddr> for AddressKey {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
            v4 @ IpAddr::V4(_) => v4,
        })
    }
}

/// The first address from the right that is not a trusted proxy's. An entry that is none ends the
/// search: nobody vouches for what stands left of it.
fn forwarded_for(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let mut client = peer;
    let lines = headers.get_all(&X_FORWARDED_FOR).iter().rev();
    let mut entries = lines.flat_map(|line| line.as_bytes().rsplit(|&byte| byte == b','));
    for _ in 0..HOPS_MAX {
        if !trusted.iter().any(|network| network.contains(&client)) {
            break;
        }
        let Some(hop) = entries.next().and_then(parse) else { break };
        client = hop;
    }
    client
}

/// An address, with or without a port and, for IPv6, brackets.
fn parse(entry: &[u8]) -> Option<IpAddr> {
    let entry = std::str::from_utf8(entry.trim_ascii()).ok()?;
    let in_brackets = || entry.strip_prefix('[')?.strip_suffix(']')?.parse().ok().map(IpAddr::V6);
    let address = entry
        .parse()
        .ok()
        .or_else(|| entry.parse().ok().map(|with_port: SocketAddr| with_port.ip()))
        .or_else(in_brackets)?;
    Some(address.to_canonical())
}

/// More proxies in a row than anybody has.
const HOPS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    const PROXY: &str = "10.0.0.1";

    fn check(peer: &str, lines: &[&str], expected: &str) {
        let trusted = ["10.0.0.0/8", "fd00::/8"].map(|network| network.parse().unwrap());
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(X_FORWARDED_FOR, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        headers.append("forwarded", HeaderValue::from_static("for=203.0.113.99"));
        let found = forwarded_for(peer.parse().unwrap(), &headers, &trusted);
        let shown: Vec<_> = lines.iter().map(|line| &line[..line.len().min(80)]).collect();
        assert_eq!(found, expected.parse::<IpAddr>().unwrap(), "{peer} {shown:?}");
    }

    #[test]
    fn what_others_than_trusted_proxies_write_is_not_read() {
        check("192.0.2.1", &["198.51.100.1"], "192.0.2.1");
        check("192.0.2.1", &["127.0.0.1, 10.0.0.1"], "192.0.2.1");
        check("2001:db8::1", &["::1"], "2001:db8::1");
        check("127.0.0.1", &["198.51.100.1"], "127.0.0.1");
    }

    #[test]
    fn the_first_untrusted_address_from_the_right_is_the_client() {
        check(PROXY, &[], PROXY);
        check(PROXY, &["198.51.100.1"], "198.51.100.1");
        check(PROXY, &["127.0.0.1, 198.51.100.1"], "198.51.100.1");
        check(PROXY, &["203.0.113.5,198.51.100.1 ,\t10.9.9.9"], "198.51.100.1");
        check(PROXY, &["198.51.100.1", "10.9.9.9, fd00::7"], "198.51.100.1");
        check(PROXY, &["203.0.113.5", "198.51.100.1"], "198.51.100.1");
        check("fd00::1", &["2001:db8::5, 10.2.2.2"], "2001:db8::5");
        check(PROXY, &["10.1.1.1, 10.2.2.2"], "10.1.1.1");
    }

    #[test]
    fn what_is_no_address_ends_the_search_at_the_last_hop() {
        for garbage in [
            "",
            " ",
            "unknown",
            "_hidden",
            "256.1.1.1",
            "01.2.3.4",
            "1.2.3",
            "1.2.3.4:x",
            "[::1",
            "::1]",
            "[1.2.3.4]",
            "fe80::1%eth0",
            "\"198.51.100.1\"",
            "for=198.51.100.1",
            "0x7f.1",
            "198.51.100.1 198.51.100.2",
            "198.51.100.1;10.0.0.1",
            "é",
        ] {
            check(PROXY, &[garbage], PROXY);
            check(PROXY, &[&format!("198.51.100.1, {garbage}")], PROXY);
            check(PROXY, &[&format!("198.51.100.1,{garbage}, 10.9.9.9")], "10.9.9.9");
            check(PROXY, &["198.51.100.1", garbage], PROXY);
        }
    }

    #[test]
    fn ports_brackets_and_mapped_addresses_are_understood() {
        check(PROXY, &["198.51.100.1:443"], "198.51.100.1");
        check(PROXY, &["[2001:db8::5]"], "2001:db8::5");
        check(PROXY, &["[2001:db8::5]:443"], "2001:db8::5");
        check(PROXY, &["::ffff:198.51.100.1"], "198.51.100.1");
        check(PROXY, &["198.51.100.1, [::ffff:10.2.2.2]:80"], "198.51.100.1");
    }

    #[test]
    fn very_long_lists_are_not_read_to_their_end() {
        let proxies = "10.2.2.2,".repeat(10_000) + "10.2.2.2";
        check(PROXY, &[&format!("198.51.100.1,{proxies}")], "10.2.2.2");
        check(PROXY, &[&",".repeat(60_000)], PROXY);
        check(PROXY, &[&"1".repeat(60_000)], PROXY);
        let lines = vec!["203.0.113.5"; 90];
        check(PROXY, &[&lines[..], &["198.51.100.1"]].concat(), "198.51.100.1");
    }

    #[test]
    fn a_network_of_64_bits_is_one_client_of_ipv6() {
        let key = |address: &str| AddressKey::from(address.parse::<IpAddr>().unwrap());
        assert_eq!(key("2001:db8:1:2::1"), key("2001:db8:1:2:ffff::9"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
        assert_eq!(key("::ffff:192.0.2.1"), key("192.0.2.1"));
    }
}
