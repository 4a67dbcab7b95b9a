//! The HTTP client of all webhooks: how one is asked and posted to, and how much of an answer is read.

use std::error::Error;
use std::time::Duration;

use parts::{File, FileError};
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{ClientBuilder, RequestBuilder};

use crate::push::{self, Secret};

/// How long a name may take to be found, and a connection to be made.
pub(super) const CONNECT: Duration = Duration::from_secs(5);
/// Of an answer, what is looked at.
const ANSWER_MAX: usize = 64 << 10;

/// An answer to a post.
pub(super) struct Answer {
    pub(super) status: u16,
    /// The header `Retry-After`.
    pub(super) retry_after: Option<String>,
    /// As much of the body as is looked at.
    pub(super) body: Vec<u8>,
}

/// An answer to OPTIONS.
pub(super) struct Consent {
    /// Whether it lets us post; `None`: it says nothing of it.
    pub(super) consents: Option<bool>,
    /// How many posts a minute it takes, if it says so.
    pub(super) per_minute: Option<u64>,
}

/// Follows no redirects (CloudEvents webhooks §2.2): what is posted, and the proofs in it, go where somebody said, and nowhere else.
pub(super) fn builder(timeout_ms: u32) -> ClientBuilder {
    reqwest::Client::builder()
        .redirect(Policy::none())
        .no_proxy()
        .connect_timeout(CONNECT)
        .timeout(Duration::from_millis(u64::from(timeout_ms.max(1))))
}

/// Posts. Not cancel-safe: nobody knows whether it arrived.
///
/// # Errors
/// Why there is no answer.
pub(super) async fn post(request: RequestBuilder) -> Result<Answer, String> {
    let mut answer = request.send().await.map_err(words)?;
    let mut body = Vec::new();
    while let Ok(Some(piece)) = answer.chunk().await {
        if body.len() + piece.len() > ANSWER_MAX {
            break;
        }
        body.extend_from_slice(&piece);
    }
    let retry_after = texts(answer.headers(), RETRY_AFTER.as_str()).next().map(str::to_owned);
    Ok(Answer { status: answer.status().as_u16(), retry_after, body })
}

/// Asks with `request`, an OPTIONS, whether `origin` may post (CloudEvents webhooks §4). Cancel-safe.
///
/// # Errors
/// Why there is no answer.
pub(super) async fn ask(request: RequestBuilder, origin: &str) -> Result<Consent, String> {
    let answer = request.header(push::REQUEST_ORIGIN, origin).send().await.map_err(words)?;
    let consents = push::consents(texts(answer.headers(), push::ALLOWED_ORIGIN), origin);
    let per_minute = texts(answer.headers(), push::ALLOWED_RATE).next();
    Ok(Consent { consents, per_minute: per_minute.and_then(|text| text.trim().parse().ok()) })
}

/// The secret in `file`.
pub(super) fn secret(file: &File) -> Result<Secret, FileError> {
    Secret::parse(file.text()?).map_err(|error| file.wrong(error))
}

fn texts<'a>(headers: &'a HeaderMap, name: &'static str) -> impl Iterator<Item = &'a str> {
    headers.get_all(name).iter().map(|value| value.to_str().unwrap_or_default())
}

/// The innermost reason says most. URLs may hold proofs, and are left out.
fn words(error: reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    let error = error.without_url();
    let mut inner: &dyn Error = &error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}
