//! Which web pages may use Weft (Fetch §3.2): a browser says where a page came from, and Weft decides. Without this, any
//! page that a person visits could publish to a Weft on their machine.

use http::HeaderMap;
use http::header::{HOST, HeaderValue, ORIGIN};

/// Where a request comes from.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum From {
    /// No browser, or a page from this host and port.
    Here,
    /// A page of this allowed origin: the answer needs CORS headers, else the browser withholds it.
    Allowed(HeaderValue),
    /// A page that may not.
    Elsewhere,
}

impl From {
    pub(crate) fn of(headers: &HeaderMap, origins: &[String]) -> Self {
        let Some(origin) = headers.get(ORIGIN) else { return Self::Here };
        let text = origin.to_str().unwrap_or_default();
        let host = headers.get(HOST).and_then(|host| host.to_str().ok());
        let authority = text.split_once("://").map(|(_, authority)| authority);
        if authority.is_some() && authority == host {
            return Self::Here;
        }
        match origins.iter().any(|allowed| allowed == "*" || allowed.trim_end_matches('/') == text) {
            true => Self::Allowed(origin.clone()),
            false => Self::Elsewhere,
        }
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
            From::of(&headers, &origins.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        let allowed = From::Allowed(HeaderValue::from_static("https://a.org"));
        assert_eq!(from(None, &[]), From::Here);
        assert_eq!(from(Some("http://weft:8080"), &[]), From::Here);
        assert_eq!(from(Some("http://weft:9090"), &[]), From::Elsewhere);
        assert_eq!(from(Some("https://a.org"), &[]), From::Elsewhere);
        assert_eq!(from(Some("https://a.org"), &["https://a.org/"]), allowed);
        assert_eq!(from(Some("https://a.org"), &["*"]), allowed);
        assert_eq!(from(Some("null"), &["https://a.org"]), From::Elsewhere);
    }
}
