//! Which web pages may use listeners that are not made for browsers (Fetch §3.2): those of this host, and those of
//! `http.origins`. Without this, any page that a person visits could talk to a Weft on their machine.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, StatusCode};
use http_front::From;

use crate::admin::problem;

/// Refuses requests of pages that may not, and answers the questions of browsers (CORS) for those that may. Cancel-safe.
pub(crate) async fn of_pages(State(origins): State<Arc<[String]>>, request: Request, next: Next) -> Response {
    let from = From::of(request.headers(), request.uri(), &origins);
    let origin = match from {
        From::Here if is_foreign(request.headers()) => None,
        From::Elsewhere => None,
        From::Here => return next.run(request).await,
        From::Allowed(origin) => Some(origin),
    };
    let Some(origin) = origin else {
        let detail = "add the page's origin to http.origins if it may";
        return problem(StatusCode::FORBIDDEN, "origin", detail);
    };
    let is_question = request.method() == Method::OPTIONS;
    let mut response = match is_question {
        true => StatusCode::NO_CONTENT.into_response(),
        false => next.run(request).await,
    };
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    if is_question {
        let methods = HeaderValue::from_static("GET, POST, DELETE");
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
        let names = HeaderValue::from_static("*, authorization, content-type");
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names);
    }
    response
}

/// What a page of another site asks for without saying its origin: an image, a frame, a link (Fetch Metadata §2.3).
fn is_foreign(headers: &HeaderMap) -> bool {
    headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site" || site == "same-site")
        && !headers.contains_key(header::ORIGIN)
}
