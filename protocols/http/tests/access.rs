//! Who may use `/events`: each request asks the gate.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "helpers of tests"
)]

mod support;

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use event::access::{Asking, Credentials, Exchange, Gate};
use event::testing::Call;
use event::{Allowance, Bucket, Meter, Pending, Principal, Rate, Reject, RejectKind};
use http_front::Options;
use reqwest::RequestBuilder;

use support::Server;

/// Lets in by the token, and shows who asked.
struct Tokens {
    allowance: Allowance,
}

impl Gate for Tokens {
    fn admit(&self, asking: Asking) -> Pending<Principal> {
        let refuse = |kind| Err(Reject::new(kind, "as the test says"));
        let allowance = self.allowance.clone();
        let who = Principal { user: Some(Arc::from("alice")), ..Principal::anonymous(asking.client) };
        let answer = match asking.credentials {
            Credentials::Token(token) => match &*token {
                "good" => Ok(who),
                "slow" => Ok(Principal { allowance, ..who }),
                "short" => {
                    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
                    Ok(Principal { until_ms: Some(u64::try_from(now).unwrap() + 300), ..who })
                }
                "denied" => refuse(RejectKind::Denied),
                "busy" => refuse(RejectKind::Busy),
                "away" => refuse(RejectKind::Unavailable),
                _ => refuse(RejectKind::Unproved),
            },
            Credentials::Password { user, password } => match (user.as_deref(), password.as_deref()) {
                (Some("alice"), Some(b"secret")) => Ok(who),
                _ => refuse(RejectKind::Unproved),
            },
            Credentials::None => refuse(RejectKind::Unproved),
        };
        Box::pin(std::future::ready(answer))
    }

    fn exchange(&self, _asking: Asking, _method: &str) -> Option<Box<dyn Exchange>> {
        None
    }
}

async fn server() -> Server {
    let rate = Rate::per_second(1);
    let meter = Meter { packets: None, bytes: rate.map(|rate| Bucket::new(rate, Instant::now())) };
    let gate = Tokens { allowance: Allowance::of(vec![Arc::new(meter)]) };
    Server::start_behind(Arc::new(gate), Options::default()).await
}

async fn status(request: RequestBuilder) -> (u16, Vec<String>) {
    let answer = request.send().await.unwrap();
    let headers = answer.headers();
    let told = headers.get_all("www-authenticate").iter().chain(headers.get("retry-after"));
    (answer.status().as_u16(), told.map(|value| value.to_str().unwrap().to_owned()).collect())
}

#[tokio::test]
async fn a_publish_needs_proof_and_is_refused_with_the_code_of_the_reason() {
    let server = server().await;
    let post = || server.post("?topic=a").body("x");
    let challenges = ["Basic realm=\"weft\", charset=\"UTF-8\"", "Bearer realm=\"weft\""].map(str::to_owned);
    assert_eq!(status(post()).await, (401, challenges.to_vec()));
    assert_eq!(status(post().bearer_auth("wrong")).await.0, 401);
    assert_eq!(status(post().header("authorization", "Digest x")).await.0, 401);
    assert_eq!(status(post().bearer_auth("denied")).await, (403, vec![]));
    assert_eq!(status(post().bearer_auth("busy")).await, (429, vec!["1".to_owned()]));
    assert_eq!(status(post().bearer_auth("away")).await, (503, vec!["5".to_owned()]));
    // A secret in the query of a publish would get into logs: it is no way to come in.
    assert_eq!(status(server.post("?topic=a&access_token=good").body("x")).await.0, 400);
    assert!(server.hub.calls().is_empty());
    assert_eq!(status(post().bearer_auth("good")).await.0, 200);
    assert_eq!(status(post().basic_auth("alice", Some("secret"))).await.0, 200);
    assert_eq!(server.hub.calls().len(), 2);
}

#[tokio::test]
async fn a_stream_needs_proof_and_ends_with_it() {
    let server = server().await;
    let get = |query: &str| server.client.get(server.url(query));
    assert_eq!(status(get("?topic=a")).await.0, 401);
    assert_eq!(status(server.client.head(server.url("?topic=a"))).await.0, 401);
    assert_eq!(status(get("?topic=a&access_token=good")).await.0, 200);
    let stream = get("?topic=a").bearer_auth("short").send().await.unwrap();
    // It ends by itself.
    stream.bytes().await.unwrap();
    let who = server.hub.calls().into_iter().find_map(|call| match call {
        Call::Attach { who, .. } => who.user,
        _ => None,
    });
    assert_eq!(who.as_deref(), Some("alice"));
}

#[tokio::test]
async fn who_sends_too_much_is_told_when_to_go_on() {
    let server = server().await;
    let post = || server.post("?topic=a").bearer_auth("slow");
    // One byte each second, and this leaves a debt of a hundred.
    assert_eq!(status(post().body("x".repeat(101))).await.0, 200);
    let (code, told) = status(post().body("x")).await;
    let seconds: u64 = told[0].parse().unwrap();
    assert_eq!(code, 429);
    assert!((90..=100).contains(&seconds), "{seconds}");
    assert_eq!(status(server.post("?topic=a").bearer_auth("good").body("x")).await.0, 200);
}
