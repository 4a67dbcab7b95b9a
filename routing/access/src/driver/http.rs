//! The HTTP client of call-out and JWKS.

use std::time::Duration;

use reqwest::redirect::Policy;

use super::callout::words;

/// A client that follows no redirects: secrets go where the configuration says, and nowhere else.
pub(super) fn client() -> Result<reqwest::Client, String> {
    let builder = reqwest::Client::builder().redirect(Policy::none()).connect_timeout(Duration::from_secs(5));
    builder.user_agent(concat!("weft/", env!("CARGO_PKG_VERSION"))).build().map_err(|error| words(&error))
}

/// The body of an answer, up to `most` bytes. Not cancel-safe: what was read is lost.
pub(super) async fn body(mut answer: reqwest::Response, most: usize) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| words(&error))? {
        if body.len() + chunk.len() > most {
            return Err(format!("its answer has more than {most} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
