//! The server's half of the opening handshake (RFC 6455 §4.2), and what the URL of `/ws` says. Sans-io.

use std::time::Duration;

use base64::Engine as _;
use event::{ClientId, Reject, RejectKind};
use http::header::{
    ALLOW, CONNECTION, CONTENT_TYPE, HOST, HeaderName, ORIGIN, RETRY_AFTER, SEC_WEBSOCKET_ACCEPT,
    SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
    WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::Options;
use crate::deflate::Deflate;

/// Why a handshake is refused.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    reason: String,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, reason: impl Into<String>) -> Self {
        Self { status, reason: reason.into() }
    }

    /// What the gate's refusal is in HTTP (RFC 9110 §15.5).
    pub(crate) fn by_gate(reject: Reject) -> Self {
        let status = match reject.kind {
            RejectKind::Malformed => StatusCode::BAD_REQUEST,
            RejectKind::Unproved => StatusCode::UNAUTHORIZED,
            RejectKind::Denied => StatusCode::FORBIDDEN,
            RejectKind::Busy => StatusCode::TOO_MANY_REQUESTS,
            RejectKind::Unavailable | RejectKind::Closed => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, reject.reason)
    }

    pub(crate) fn into_response(self) -> Response<String> {
        let mut response = Response::new(self.reason + "\n");
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        match self.status {
            StatusCode::UNAUTHORIZED => {
                for challenge in [r#"Basic realm="weft", charset="UTF-8""#, r#"Bearer realm="weft""#] {
                    headers.append(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
                }
            }
            StatusCode::TOO_MANY_REQUESTS => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("5"));
            }
            _ => {}
        }
        if self.status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(ALLOW, HeaderValue::from_static("GET"));
        }
        if self.status == StatusCode::UPGRADE_REQUIRED {
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        }
        response
    }
}

/// What both sides hold to from now on.
#[derive(Debug)]
pub(crate) struct Agreed {
    /// To be sent to the client.
    pub(crate) response: Response<String>,
    /// Messages may be compressed.
    pub(crate) deflate: Option<Deflate>,
}

/// Checks a request to speak one of `protocols`, the best first, and answers which one is spoken from now on.
pub(crate) fn answer<B>(
    request: &Request<B>,
    protocols: &[&'static str],
    options: &Options,
) -> Result<Agreed, Refusal> {
    let refused = |status, reason| Err(Refusal::new(status, reason));
    let headers = request.headers();
    if request.method() != Method::GET {
        return refused(StatusCode::METHOD_NOT_ALLOWED, "a WebSocket is opened with GET");
    }
    if request.version() < Version::HTTP_11 || !headers.contains_key(HOST) {
        return refused(StatusCode::BAD_REQUEST, "a WebSocket is opened with HTTP/1.1 and a Host");
    }
    if !has_token(headers, &UPGRADE, "websocket") || !has_token(headers, &CONNECTION, "upgrade") {
        return refused(StatusCode::UPGRADE_REQUIRED, "this is for WebSocket connections");
    }
    if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return refused(StatusCode::UPGRADE_REQUIRED, "Sec-WebSocket-Version has to be 13");
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).filter(|key| {
        base64::engine::general_purpose::STANDARD.decode(key.as_bytes()).is_ok_and(|nonce| nonce.len() == 16)
    });
    let Some(key) = key else {
        return refused(StatusCode::BAD_REQUEST, "Sec-WebSocket-Key is not 16 bytes in base64");
    };
    if !is_allowed(headers, &options.origins) {
        return refused(
            StatusCode::FORBIDDEN,
            "add the page's origin to websocket.origins if it may connect",
        );
    }
    let offered =
        |protocol: &&&'static str| items(headers, &SEC_WEBSOCKET_PROTOCOL).any(|item| item == **protocol);
    let Some(protocol) = protocols.iter().find(offered) else {
        let wanted = protocols.first().copied().unwrap_or_default();
        let reason = format!("the subprotocol {wanted} is needed: new WebSocket(url, \"{wanted}\")");
        return Err(Refusal::new(StatusCode::BAD_REQUEST, reason));
    };
    let mut response = Response::new(String::new());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let answer = response.headers_mut();
    answer.insert(UPGRADE, HeaderValue::from_static("websocket"));
    answer.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    answer.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    let accept = HeaderValue::try_from(derive_accept_key(key.as_bytes()));
    answer.insert(SEC_WEBSOCKET_ACCEPT, accept.unwrap_or(HeaderValue::from_static("")));
    let deflate = Deflate::choose(items(headers, &SEC_WEBSOCKET_EXTENSIONS)).filter(|_| options.deflate);
    if let Some(extension) = deflate.and_then(|deflate| HeaderValue::try_from(deflate.answer()).ok()) {
        answer.insert(SEC_WEBSOCKET_EXTENSIONS, extension);
    }
    Ok(Agreed { response, deflate })
}

/// Whether a list header has `token`, whatever its case.
fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    items(headers, name).any(|item| item.eq_ignore_ascii_case(token))
}

/// The items of a list header, which may come in several lines.
fn items<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h str> {
    let lists = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    lists.flat_map(|list| list.split(',')).map(str::trim)
}

/// A browser says which page asks. Without this check, any page a person visits could use a Weft on their machine. Pages
/// of the host that is asked may, from whatever port; so may those of `origins`.
fn is_allowed(headers: &HeaderMap, origins: &[String]) -> bool {
    let Some(origin) = headers.get(ORIGIN) else { return true };
    let origin = origin.to_str().unwrap_or_default();
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let page = origin.split_once("://").map(|(_, authority)| authority);
    page.zip(host).is_some_and(|(page, host)| is_same_host(page, host))
        || origins.iter().any(|allowed| allowed == "*" || allowed.trim_end_matches('/') == origin)
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

/// Which session the URL asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct SessionQuery {
    /// `None`: one that ends with the connection.
    pub(crate) client: Option<ClientId>,
    pub(crate) keep: Duration,
    pub(crate) clean: bool,
}

impl SessionQuery {
    pub(crate) fn parse(uri: &Uri, options: &Options) -> Result<Self, String> {
        let (mut client, mut keep, mut clean) = (None, options.keep_s, false);
        for pair in uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match (name, value) {
                ("client", _) => client = Some(client_id(value)?),
                // For the gate.
                ("access_token", _) => {}
                ("clean", "true" | "false") => clean = value == "true",
                ("keep", _) => {
                    keep = value.parse().map_err(|_| format!("keep={value} is no number of seconds"))?
                }
                _ => return Err(format!("{pair} is not known; known: client=ID, keep=SECONDS, clean=true")),
            }
        }
        let keep = if client.is_some() { keep.min(options.keep_s_max) } else { 0 };
        Ok(Self { client, keep: Duration::from_secs(u64::from(keep)), clean })
    }
}

/// A name that starts with `$` is Weft's own.
fn client_id(text: &str) -> Result<ClientId, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        let digit = |at: usize| tail.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.extend(u8::try_from(high << 4 | low));
                rest = tail.get(2..).unwrap_or_default();
            }
            (b'+', _, _) => bytes.push(b' '),
            (other, _, _) => bytes.push(*other),
        }
    }
    let id = String::from_utf8(bytes).map_err(|_| "client is not UTF-8".to_owned())?;
    if id.is_empty() || id.len() > usize::from(u16::MAX) || id.starts_with('$') || id.contains('\0') {
        return Err("client has 1 to 65535 bytes, no null character, and does not start with $".to_owned());
    }
    Ok(ClientId::from(id.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: [(&str, &str); 6] = [
        ("host", "weft:8080"),
        ("upgrade", "WebSocket"),
        ("connection", "keep-alive, Upgrade"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-protocol", "x, mqtt"),
    ];

    fn ask(changes: &[(&str, &str)]) -> Result<Agreed, Refusal> {
        let mut headers = HeaderMap::new();
        for (name, value) in GOOD.iter().chain(changes) {
            headers.insert(HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        }
        let mut request = Request::new(());
        *request.headers_mut() = headers;
        answer(&request, &["mqtt", "mqttv3.1"], &Options::default())
    }

    #[test]
    fn rfc_6455_4_2_2_a_good_handshake_switches() {
        let response = ask(&[]).unwrap().response;
        assert_eq!(response.status(), 101);
        assert_eq!(response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(response.headers()["sec-websocket-protocol"], "mqtt");
        ask(&[("origin", "http://weft:3000")]).unwrap();
        ask(&[("origin", "http://localhost:3000"), ("host", "127.0.0.1:8080")]).unwrap();
    }

    #[test]
    fn rfc_6455_4_2_1_a_wrong_handshake_is_refused_and_named() {
        for (change, status, word) in [
            (("upgrade", "h2c"), 426, "WebSocket"),
            (("connection", "close"), 426, "WebSocket"),
            (("sec-websocket-version", "8"), 426, "13"),
            (("sec-websocket-key", "c2hvcnQ="), 400, "16 bytes"),
            (("sec-websocket-key", "*"), 400, "16 bytes"),
            (("sec-websocket-protocol", "mqttt"), 400, "mqtt"),
            (("origin", "https://evil.example"), 403, "origin"),
            (("origin", "null"), 403, "origin"),
        ] {
            let response = ask(&[change]).unwrap_err().into_response();
            assert_eq!(response.status(), status, "{change:?}");
            assert!(response.body().contains(word), "{}", response.body());
        }
    }

    #[test]
    fn the_url_names_the_session() {
        let options = Options { keep_s_max: 100, ..Options::default() };
        let parse = |query: &str| SessionQuery::parse(&format!("/ws?{query}").parse().unwrap(), &options);
        assert_eq!(parse("").unwrap(), SessionQuery::default());
        let full = parse("client=a%20b&keep=99&clean=true").unwrap();
        assert_eq!((full.client, full.keep.as_secs(), full.clean), (Some("a b".into()), 99, true));
        assert_eq!(parse("client=a").unwrap().keep.as_secs(), 100);
        for wrong in
            ["client=", "client=$bridge/x", "client=%ff", "client=%00", "keep=x", "clean=1", "cleint=a"]
        {
            parse(wrong).unwrap_err();
        }
    }
}
