//! Who may connect: the gate is asked before the handshake is answered.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "this is a test")]

mod support;

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use event::access::{Asking, Credentials, Exchange, Gate};
use event::{Allowance, Bucket, Meter, Pending, Principal, Rate, Reject, RejectKind};
use serde_json::json;
use support::Server;
use tokio_tungstenite::tungstenite::Error;
use websocket::Options;

/// Lets in by the token.
struct Tokens;

impl Gate for Tokens {
    fn admit(&self, asking: Asking) -> Pending<Principal> {
        let refuse = |kind| Err(Reject::new(kind, "as the test says"));
        let who = Principal { user: Some(Arc::from("alice")), ..Principal::anonymous(asking.client) };
        let Credentials::Token(token) = asking.credentials else {
            return Box::pin(std::future::ready(refuse(RejectKind::Unproved)));
        };
        let answer = match &*token {
            "good" => Ok(who),
            "slow" => {
                let packets = Rate::per_second(20).map(|rate| Bucket::new(rate, Instant::now()));
                let meter = Arc::new(Meter { packets, bytes: None });
                Ok(Principal { allowance: Allowance::of(vec![meter]), ..who })
            }
            "short" => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
                Ok(Principal { until_ms: Some(u64::try_from(now).unwrap() + 300), ..who })
            }
            "denied" => refuse(RejectKind::Denied),
            "busy" => refuse(RejectKind::Busy),
            "away" => refuse(RejectKind::Unavailable),
            _ => refuse(RejectKind::Unproved),
        };
        Box::pin(std::future::ready(answer))
    }

    fn exchange(&self, _asking: Asking, _method: &str) -> Option<Box<dyn Exchange>> {
        None
    }
}

const PROTOCOL: (&str, &str) = ("sec-websocket-protocol", "cloudevents.json");

#[tokio::test]
async fn a_handshake_without_proof_is_refused_before_the_upgrade() {
    let server = Server::start_behind(Arc::new(Tokens), Options::default()).await;
    for (token, code, header, value) in [
        ("wrong", 401, "www-authenticate", "Basic realm=\"weft\", charset=\"UTF-8\""),
        ("denied", 403, "content-type", "text/plain; charset=utf-8"),
        ("busy", 429, "retry-after", "1"),
        ("away", 503, "retry-after", "5"),
    ] {
        let bearer = format!("Bearer {token}");
        let refused = server.try_connect("/ws", &[PROTOCOL, ("authorization", &bearer)]).await;
        let Err(Error::Http(response)) = refused else { panic!("{token}") };
        assert_eq!(
            (response.status().as_u16(), &response.headers()[header]),
            (code, &value.parse().unwrap())
        );
    }
    assert!(server.try_connect("/ws", &[PROTOCOL]).await.is_err());
    assert!(server.hub.calls().is_empty(), "nobody was attached");
    server.try_connect("/ws", &[PROTOCOL, ("authorization", "Bearer good")]).await.unwrap();
    server.try_connect("/ws?client=a&access_token=good", &[PROTOCOL]).await.unwrap();
}

#[tokio::test]
async fn a_connection_ends_with_its_proof() {
    let server = Server::start_behind(Arc::new(Tokens), Options::default()).await;
    let mut client = server.try_connect("/ws?access_token=short", &[PROTOCOL]).await.unwrap();
    assert_eq!(client.closed().await, 1008);
}

#[tokio::test]
async fn who_sends_too_much_is_read_slower_and_loses_nothing() {
    let server = Server::start_behind(Arc::new(Tokens), Options::default()).await;
    let mut client = server.try_connect("/ws?access_token=slow", &[PROTOCOL]).await.unwrap();
    for id in 0..30 {
        client.send("t", &id.to_string(), json!({"wefttopic": "a"})).await;
    }
    for id in 0..30 {
        let answer = client.event().await;
        assert_eq!(answer["data"]["id"], id.to_string());
    }
}
