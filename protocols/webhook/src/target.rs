//! Where webhooks may be. Sans-io.
//!
//! Whoever may subscribe can make Weft post to an address of its choice, from within the network that Weft is in (OWASP:
//! server-side request forgery). So addresses are checked: when a webhook is subscribed, so that the client learns what is
//! wrong, and again on each connection, because names may change what they stand for.

use std::net::IpAddr;

use reqwest::Url;

/// A URL that events may be posted to, as far as it can be told without asking for addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target(Url);

/// Why a URL cannot be a webhook.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadUrl {
    /// Not a URL.
    #[error("{0:?} is no URL: {1}")]
    Syntax(String, String),
    /// Longer than a URL should be.
    #[error("the URL has {0} bytes, at most {URL_MAX} are taken")]
    Long(usize),
    /// Neither http nor https.
    #[error("a webhook is reached by http or https, not by {0:?}")]
    Scheme(String),
    /// It has a user name or a password.
    #[error("the URL holds credentials, which logs would show: leave them out")]
    Credentials,
    /// An address on this machine.
    #[error("{0} is an address of this machine: webhooks there are not taken unless webhook.loopback = true")]
    Loopback(IpAddr),
    /// An address that no webhook can have.
    #[error("{0} is a link-local, multicast, broadcast or unspecified address: no webhook is taken there")]
    Reserved(IpAddr),
    /// The name stands for nothing.
    #[error("the host {0:?} has no address")]
    Unknown(String),
}

impl Target {
    /// Reads a URL. A host that is an address is checked.
    ///
    /// # Errors
    /// It is none that may be posted to.
    pub fn parse(text: &str, loopback: bool) -> Result<Self, BadUrl> {
        if text.len() > URL_MAX {
            return Err(BadUrl::Long(text.len()));
        }
        let url = Url::parse(text).map_err(|error| BadUrl::Syntax(text.to_owned(), error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(BadUrl::Scheme(url.scheme().to_owned()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(BadUrl::Credentials);
        }
        let target = Self(url);
        if let Ok(address) = target.host().parse() {
            check(address, loopback)?;
        }
        Ok(target)
    }

    /// The host: a name, or an address without brackets.
    pub fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']')
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.0.port_or_known_default().unwrap_or(80)
    }

    /// The whole.
    pub fn url(&self) -> &Url {
        &self.0
    }
}

/// The longest URL, bytes.
const URL_MAX: usize = 4096;

/// Whether events may be posted to `address`.
///
/// # Errors
/// They may not.
pub fn check(address: IpAddr, loopback: bool) -> Result<(), BadUrl> {
    let canonical = match address.to_canonical() {
        // NAT64 and 6to4 carry an IPv4 address.
        IpAddr::V6(v6) => embedded(v6).map_or(IpAddr::V6(v6), IpAddr::V4),
        v4 @ IpAddr::V4(_) => v4,
    };
    let is_reserved = match canonical {
        IpAddr::V4(v4) => {
            v4.is_link_local()
                || v4.is_multicast()
                || v4.is_broadcast()
                || v4.octets().first().is_some_and(|first| *first == 0 || *first >= 240)
        }
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.is_multicast() || v6.is_unspecified(),
    };
    if is_reserved {
        return Err(BadUrl::Reserved(address));
    }
    if canonical.is_loopback() && !loopback {
        return Err(BadUrl::Loopback(address));
    }
    Ok(())
}

/// The IPv4 address in one of NAT64's (RFC 6052) or 6to4's (RFC 3056).
fn embedded(v6: std::net::Ipv6Addr) -> Option<std::net::Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = v6.segments();
    let of = |high: u16, low: u16| Some(std::net::Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)));
    match [a, b, c, d, e, f] {
        [0x64, 0xff9b, 0, 0, 0, 0] => of(g, h),
        [0x2002, ..] => of(b, c),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_this_machine_need_a_word() {
        for url in [
            "http://127.0.0.1:8080/x",
            "http://127.9.9.9",
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://[64:ff9b::7f00:1]/",
            "http://[2002:7f00:1::]/",
        ] {
            assert!(matches!(Target::parse(url, false), Err(BadUrl::Loopback(_))), "{url}");
            assert!(Target::parse(url, true).is_ok(), "{url}");
        }
        for url in [
            "http://169.254.169.254/latest/meta-data",
            "http://0.0.0.0/",
            "http://[::]/",
            "http://[fe80::1]/",
            "http://224.0.0.1/",
            "http://255.255.255.255/",
            "http://[::ffff:169.254.1.1]/",
            "http://[64:ff9b::a9fe:a9fe]/",
        ] {
            assert!(matches!(Target::parse(url, true), Err(BadUrl::Reserved(_))), "{url}");
        }
    }

    #[test]
    fn what_is_no_webhook_is_told() {
        for (url, want) in [
            ("ftp://host/", "\"ftp\""),
            ("file:///etc/passwd", "\"file\""),
            ("http://u:p@host/", "credentials"),
            ("not a url", "no URL"),
            ("http://", "no URL"),
            (&format!("http://h/{}", "x".repeat(5000)), "at most 4096"),
        ] {
            assert!(Target::parse(url, true).unwrap_err().to_string().contains(want), "{url}");
        }
        let target = Target::parse("https://example.org/a?b=c", false).unwrap();
        assert_eq!((target.host(), target.port()), ("example.org", 443));
        assert!(
            Target::parse("http://10.0.0.7:9/", false).is_ok(),
            "private networks are where webhooks live"
        );
    }
}
