//! Which web pages may use Weft (Fetch §3.2): a browser says where a page came from, and Weft decides. Without this, any
//! page that a person visits could publish to a Weft on their machine.

use http::header::{HOST, HeaderValue, ORIGIN};
use http::{HeaderMap, Uri};

/// Where a request comes from.
#[derive(Debug, PartialEq, Eq)]
pub enum From {
    /// No browser, or a page from this host and port.
    Here,
    /// A page of this allowed origin: the answer needs CORS headers, else the browser withholds it.
    Allowed(HeaderValue),
    /// A page that may not.
    Elsewhere,
}

impl From {
    /// Pages of the host that is asked may, from whatever port; so may those of `origins`.
    pub fn of(headers: &HeaderMap, uri: &Uri, origins: &[String]) -> Self {
        let Some(origin) = headers.get(ORIGIN) else { return Self::Here };
        let text = origin.to_str().unwrap_or_default();
        // HTTP/2 has it in the URI.
        let host = headers
            .get(HOST)
            .and_then(|host| host.to_str().ok())
            .or(uri.authority().map(|host| host.as_str()));
        let page = text.split_once("://").map(|(_, authority)| authority);
        match (page, host) {
            (Some(page), Some(host)) if page == host => Self::Here,
            (Some(page), Some(host)) if is_same_host(page, host) => Self::Allowed(origin.clone()),
            _ if origins.iter().any(|allowed| allowed == "*" || allowed.trim_end_matches('/') == text) => {
                Self::Allowed(origin.clone())
            }
            _ => Self::Elsewhere,
        }
    }
}

fn is_same_host(page: &str, host: &str) -> bool {
    let (page, host) = (without_port(page), without_port(host));
    let is_loopback = |name: &str| matches!(name, "localhost" | "127.0.0.1" | "[::1]");
    page.eq_ignore_ascii_case(host) || (is_loopback(page) && is_loopback(host))
}

fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_host_and_listed_origins_are_let_in() {
        let from = |origin: Option<&'static str>, origins: &[&str]| {
            let mut headers = HeaderMap::from_iter([(HOST, HeaderValue::from_static("weft:8080"))]);
            headers.extend(origin.map(|origin| (ORIGIN, HeaderValue::from_static(origin))));
            From::of(&headers, &Uri::default(), &origins.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        let allowed = From::Allowed(HeaderValue::from_static("https://a.org"));
        assert_eq!(from(None, &[]), From::Here);
        assert_eq!(from(Some("http://weft:8080"), &[]), From::Here);
        assert_eq!(
            from(Some("http://weft:9090"), &[]),
            From::Allowed(HeaderValue::from_static("http://weft:9090"))
        );
        assert_eq!(from(Some("http://weft.evil.org"), &[]), From::Elsewhere);
        assert_eq!(from(Some("https://a.org"), &[]), From::Elsewhere);
        assert_eq!(from(Some("https://a.org"), &["https://a.org/"]), allowed);
        assert_eq!(from(Some("https://a.org"), &["*"]), allowed);
        assert_eq!(from(Some("null"), &["https://a.org"]), From::Elsewhere);
    }

    #[test]
    fn hosts_are_compared_without_port() {
        for (page, host) in
            [("localhost:3000", "127.0.0.1:8080"), ("[::1]:1", "localhost"), ("Weft.org", "weft.org:80")]
        {
            assert!(is_same_host(page, host), "{page} {host}");
        }
        for (page, host) in
            [("localhost.evil.org", "localhost"), ("[::2]", "[::3]"), ("a:1", "b:1"), ("", "localhost")]
        {
            assert!(!is_same_host(page, host), "{page} {host}");
        }
    }
}
