//! Whose request it is that a proxy passes on: `Forwarded` (RFC 7239) and `X-Forwarded-For`. Each proxy adds the address
//! it was asked by at the right end; what stands left of the first address that is no trusted proxy may be invented.

use std::net::{IpAddr, SocketAddr};

use crate::network::{Network, any_contains};

/// The client's address: read from the right, the first that is none of `trusted`. `None`: nothing usable is told.
///
/// `forwarded` and `x_forwarded_for` are the values of these headers, in the order of the request. `Forwarded` is read if it
/// is there, else the other.
pub fn client<'a>(
    forwarded: impl DoubleEndedIterator<Item = &'a str>,
    x_forwarded_for: impl DoubleEndedIterator<Item = &'a str>,
    trusted: &[Network],
) -> Option<SocketAddr> {
    let mut standard = forwarded.rev().flat_map(|value| value.rsplit(',')).map(element).peekable();
    if standard.peek().is_some() {
        return first_untrusted(standard, trusted);
    }
    first_untrusted(x_forwarded_for.rev().flat_map(|value| value.rsplit(',')).map(node), trusted)
}

/// Stops at what cannot be read: the proxy in front of it says that somebody asked it, not who.
fn first_untrusted(
    nodes: impl Iterator<Item = Option<SocketAddr>>,
    trusted: &[Network],
) -> Option<SocketAddr> {
    let mut last = None;
    for node in nodes.take(NODES_MAX) {
        let Some(address) = node else { break };
        last = Some(address);
        if !any_contains(trusted, address.ip()) {
            break;
        }
    }
    last
}

/// No request passes so many proxies.
const NODES_MAX: usize = 32;

/// The `for` of one element of `Forwarded`, such as `for="[2001:db8::7]:4711";proto=https` (RFC 7239 §4).
fn element(text: &str) -> Option<SocketAddr> {
    text.split(';').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then(|| node(value))?
    })
}

/// An address with or without port, quotes and brackets.
fn node(text: &str) -> Option<SocketAddr> {
    let text = text.trim();
    let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    match bare.parse::<IpAddr>() {
        Ok(address) => Some(SocketAddr::new(address, 0)),
        Err(_) => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(forwarded: &[&str], x_forwarded_for: &[&str]) -> Option<String> {
        let trusted = ["10.0.0.0/8", "fd00::/8"].map(|text| text.parse().unwrap());
        let found = client(forwarded.iter().copied(), x_forwarded_for.iter().copied(), &trusted);
        found.map(|address| address.to_string())
    }

    #[test]
    fn the_right_most_untrusted_address_counts() {
        let x = |values: &[&str]| told(&[], values);
        assert_eq!(x(&["203.0.113.9"]).unwrap(), "203.0.113.9:0");
        assert_eq!(x(&["1.1.1.1, 203.0.113.9, 10.0.0.2"]).unwrap(), "203.0.113.9:0");
        assert_eq!(x(&["1.1.1.1", "203.0.113.9", "10.0.0.2"]).unwrap(), "203.0.113.9:0");
        assert_eq!(x(&["10.0.0.3, 10.0.0.2"]).unwrap(), "10.0.0.3:0");
        assert_eq!(x(&["203.0.113.9, not an address, 10.0.0.2"]).unwrap(), "10.0.0.2:0");
        assert_eq!(x(&["2001:db8::7,fd00::1"]).unwrap(), "[2001:db8::7]:0");
        assert_eq!((x(&[]), x(&[""]), x(&["unknown"])), (None, None, None));
    }

    #[test]
    fn rfc_7239_4_elements_are_read_and_come_first() {
        let f = |value: &str| told(&[value], &["198.51.100.1"]);
        assert_eq!(f("for=203.0.113.9;proto=http;by=10.0.0.1").unwrap(), "203.0.113.9:0");
        assert_eq!(f("For=\"[2001:db8::7]:4711\"").unwrap(), "[2001:db8::7]:4711");
        assert_eq!(f("for=\"[2001:db8::7]\", for=10.0.0.9").unwrap(), "[2001:db8::7]:0");
        assert_eq!(f("for=1.1.1.1, for=\"203.0.113.9:80\"").unwrap(), "203.0.113.9:80");
        assert_eq!((f("for=_hidden"), f("proto=https")), (None, None));
    }
}
