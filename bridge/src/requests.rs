//! What happens to each HTTP request of a connection before it is answered: the client's real address is found behind
//! trusted proxies, and the listener's rate is kept.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use event::{Meter, Source};
use http::{HeaderMap, header};
use transport::{Network, any_contains, forwarded};

#[derive(Clone)]
struct Rules {
    trusted_proxies: Arc<[Network]>,
    meter: Option<Arc<Meter>>,
}

/// `router` with that done, if there is anything to do. Needs the connection's [`Source`] among the extensions.
pub(crate) fn prepared(
    router: Router,
    trusted_proxies: &Arc<[Network]>,
    meter: Option<Arc<Meter>>,
) -> Router {
    if trusted_proxies.is_empty() && meter.is_none() {
        return router;
    }
    let rules = Rules { trusted_proxies: Arc::clone(trusted_proxies), meter };
    router.layer(middleware::from_fn_with_state(rules, prepare))
}

/// Cancel-safe.
async fn prepare(State(rules): State<Rules>, mut request: Request, next: Next) -> Response {
    if let Some(source) = request.extensions().get::<Source>()
        && let Some(source) = behind_proxy(source, request.headers(), &rules.trusted_proxies)
    {
        request.extensions_mut().insert(source);
    }
    if let Some(packets) = rules.meter.as_ref().and_then(|meter| meter.packets.as_ref()) {
        let wait = packets.charge(1, Instant::now());
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }
    next.run(request).await
}

/// The client that trusted proxies tell, if they tell one.
fn behind_proxy(source: &Source, headers: &HeaderMap, trusted: &[Network]) -> Option<Source> {
    if !any_contains(trusted, source.address.ip()) {
        return None;
    }
    let all = |name| {
        let values: Vec<&str> =
            headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
        values.into_iter()
    };
    let address = forwarded::client(all(header::FORWARDED.as_str()), all("x-forwarded-for"), trusted)?;
    // A certificate on this connection is the proxy's, and proves nothing about the client.
    Some(Source { address, certificate: None, ..source.clone() })
}
