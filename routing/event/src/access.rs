//! The gate: who may come in, and what they may do. Protocols ask it before they attach or publish for someone; the core
//! asks the [`Rights`] it gave out on every publish and subscribe, so that they hold for every protocol alike.
//!
//! No method waits. Dropping a future gives up the answer, and whoever asked is not let in.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine as _;
use bytes::Bytes;
use bytestring::ByteString;

use crate::{ClientId, Pending, Principal, Reject, TopicFilter, TopicName};

/// Who may come in. One real implementation decides by password file, token, certificate and whatever else is set;
/// [`OpenGate`] lets everybody in.
pub trait Gate: Send + Sync {
    /// Lets someone in, or refuses: [`crate::RejectKind::Unproved`] when credentials are missing or wrong,
    /// [`crate::RejectKind::Denied`] when they are right and it is not enough, [`crate::RejectKind::Busy`] at a limit,
    /// [`crate::RejectKind::Unavailable`] when whoever has to decide does not answer.
    fn admit(&self, asking: Asking) -> Pending<Principal>;

    /// Starts a proof of several steps (MQTT 5 §4.12, SASL). `None`: there is no such method here.
    fn exchange(&self, asking: Asking, method: &str) -> Option<Box<dyn Exchange>>;
}

/// A proof of several steps, on its way.
pub trait Exchange: Send {
    /// What the other end said; what to say to it. Call again only when the answer was [`Step::More`].
    fn step(&mut self, data: Bytes) -> Pending<Step>;
}

/// What to say next in an [`Exchange`].
#[derive(Clone, Debug)]
pub enum Step {
    /// The other end has to go on from this.
    More(Bytes),
    /// It is proved; the data goes with the success.
    Done(Principal, Bytes),
}

/// Someone who wants to come in.
#[derive(Clone, Debug)]
pub struct Asking {
    /// The client id it wants to have; for a request without one, a name made for the connection.
    pub client: ClientId,
    /// Where it comes from.
    pub source: Source,
    /// What it shows.
    pub credentials: Credentials,
}

/// What someone shows to prove who it is. A client certificate is part of the [`Source`].
#[derive(Clone)]
pub enum Credentials {
    /// Nothing.
    None,
    /// A user name, a password, or both.
    Password {
        /// The user name.
        user: Option<ByteString>,
        /// The password, or a token in its place.
        password: Option<Bytes>,
    },
    /// A bearer token (RFC 6750).
    Token(ByteString),
}

impl Credentials {
    /// What an HTTP request shows: its `Authorization` header (RFC 9110 §11.6.2) with Basic (RFC 7617) or Bearer
    /// (RFC 6750 §2.1), or else `access_token` of its query (RFC 6750 §2.3) from browsers, which cannot set a header for
    /// a WebSocket or an event stream.
    ///
    /// # Errors
    /// The header is neither of the two.
    pub fn of_request(authorization: Option<&[u8]>, query: Option<&str>) -> Result<Self, Reject> {
        let Some(authorization) = authorization else {
            let mut pairs = query.unwrap_or_default().split('&');
            let token = pairs.find_map(|pair| pair.strip_prefix("access_token="));
            return Ok(token.map_or(Self::None, |token| Self::Token(token.into())));
        };
        let text = std::str::from_utf8(authorization).ok();
        let found = text.and_then(|text| text.split_once(' ')).and_then(|(scheme, rest)| {
            let rest = rest.trim();
            match scheme {
                _ if scheme.eq_ignore_ascii_case("bearer") => Some(Self::Token(rest.into())),
                _ if scheme.eq_ignore_ascii_case("basic") => Self::basic(rest),
                _ => None,
            }
        });
        let reason = "Authorization is neither Basic with a user and a password nor Bearer with a token";
        found.ok_or_else(|| Reject::new(crate::RejectKind::Unproved, reason))
    }

    fn basic(text: &str) -> Option<Self> {
        let bytes = base64::engine::general_purpose::STANDARD.decode(text).ok()?;
        let at = bytes.iter().position(|byte| *byte == b':')?;
        let (user, password) = (bytes.get(..at)?, bytes.get(at + 1..)?);
        let user = std::str::from_utf8(user).ok()?;
        Some(Self::Password { user: Some(user.into()), password: Some(Bytes::copy_from_slice(password)) })
    }
}

/// Shows which kind it is, and never the secret: credentials must not get into logs.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Password { user, .. } => write!(f, "Password({user:?})"),
            Self::Token(_) => f.write_str("Token"),
        }
    }
}

/// Where a connection comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The address of the client: the one a trusted proxy names, if there is one between.
    pub address: SocketAddr,
    /// The name of the listener it came by.
    pub listener: Arc<str>,
    /// The certificate it proved to own in the TLS handshake: DER, verified against the listener's CAs.
    pub certificate: Option<Bytes>,
}

impl Source {
    /// Its address and its listener.
    pub fn peer(&self) -> (SocketAddr, Arc<str>) {
        (self.address, Arc::clone(&self.listener))
    }
}

/// What a principal may do. Cheap to clone; decided anew when the rules behind it change.
#[derive(Clone, Default)]
pub struct Rights(Option<Arc<dyn Rules>>);

/// The rules for one principal. Asked on the way of every publish: answer within a microsecond.
pub trait Rules: Send + Sync {
    /// Whether it may publish to `topic`.
    fn may_publish(&self, topic: &TopicName) -> bool;

    /// Whether it may get every event that `filter` matches.
    fn may_subscribe(&self, filter: &TopicFilter) -> bool;

    /// Whether it may look at, and end, what belongs to others: sessions, subscriptions, retained events.
    fn may_administer(&self) -> bool {
        false
    }

    /// Rises when answers given before may be wrong.
    fn revision(&self) -> u64;
}

impl Rights {
    /// Everything.
    pub fn all() -> Self {
        Self(None)
    }

    /// What `rules` say.
    pub fn by(rules: Arc<dyn Rules>) -> Self {
        Self(Some(rules))
    }

    /// Whether it may publish to `topic`.
    pub fn may_publish(&self, topic: &TopicName) -> bool {
        self.0.as_ref().is_none_or(|rules| rules.may_publish(topic))
    }

    /// Whether it may get every event that `filter` matches.
    pub fn may_subscribe(&self, filter: &TopicFilter) -> bool {
        self.0.as_ref().is_none_or(|rules| rules.may_subscribe(filter))
    }

    /// Whether it may look at, and end, what belongs to others: sessions, subscriptions, retained events.
    pub fn may_administer(&self) -> bool {
        self.0.as_ref().is_none_or(|rules| rules.may_administer())
    }

    /// Rises when answers given before may be wrong.
    pub fn revision(&self) -> u64 {
        self.0.as_ref().map_or(0, |rules| rules.revision())
    }
}

impl fmt::Debug for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "by rules" } else { "all" })
    }
}

/// Lets everybody in under the name it asks for, with all rights.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenGate;

impl Gate for OpenGate {
    fn admit(&self, asking: Asking) -> Pending<Principal> {
        let peer = Some(asking.source.peer());
        let who = Principal { peer, ..Principal::anonymous(asking.client) };
        Box::pin(std::future::ready(Ok::<_, Reject>(who)))
    }

    fn exchange(&self, _asking: Asking, _method: &str) -> Option<Box<dyn Exchange>> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_7617_and_6750_name_and_token_are_read() {
        let read = |header: &str| Credentials::of_request(Some(header.as_bytes()), Some("access_token=no"));
        let Ok(Credentials::Password { user, password }) = read("basic QWxhZGRpbjpvcGVuOnNlc2FtZQ==") else {
            panic!("not read")
        };
        assert_eq!((user.as_deref(), password.as_deref()), (Some("Aladdin"), Some(&b"open:sesame"[..])));
        assert!(matches!(read("Bearer a.b.c"), Ok(Credentials::Token(token)) if token == "a.b.c"));
        for wrong in ["Basic", "Basic !", "Basic QWxhZGRpbg==", "Digest x", ""] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        let query = |query| Credentials::of_request(None, query).unwrap();
        assert!(matches!(query(Some("a=b&access_token=t")), Credentials::Token(token) if token == "t"));
        assert!(matches!(query(Some("a=b")), Credentials::None) && matches!(query(None), Credentials::None));
    }
}
