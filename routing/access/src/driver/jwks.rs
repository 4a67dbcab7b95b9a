//! Keys from a URL: fetched by age, and at once for a key id that nobody knows, at a bounded rate.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use event::Health;
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, timeout};

use super::callout::words;
use crate::options::JwtOptions;
use crate::token::Keys;

/// The keys of a URL.
pub(super) struct Jwks {
    url: String,
    refresh: Duration,
    client: reqwest::Client,
    health: Health,
    keys: ArcSwap<Keys>,
    /// When they were asked for last: one asks, the others wait for what it gets.
    asked: Mutex<Option<Instant>>,
}

/// A stranger's tokens make us ask no more often than this.
const PAUSE: Duration = Duration::from_secs(10);

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

const BYTES_MAX: usize = 1 << 20;

/// What the board of health calls it.
const PART: &str = "access/jwks";

impl Jwks {
    /// `None` if there is no URL.
    pub(super) fn new(options: &JwtOptions, client: &reqwest::Client, health: &Health) -> Option<Self> {
        let url = options.jwks_url.clone();
        if url.is_empty() {
            return None;
        }
        health.down(PART, "the keys of tokens were not fetched yet");
        Some(Self {
            url,
            refresh: Duration::from_secs(u64::from(options.jwks_refresh_s)),
            client: client.clone(),
            health: health.clone(),
            keys: ArcSwap::default(),
            asked: Mutex::new(None),
        })
    }

    /// The keys it gave last.
    pub(super) fn keys(&self) -> Arc<Keys> {
        self.keys.load_full()
    }

    /// Fetches the keys, unless that was done a moment ago. Cancel-safe.
    pub(super) async fn refresh(&self) {
        let mut asked = self.asked.lock().await;
        if asked.is_some_and(|at| at.elapsed() < PAUSE) {
            return;
        }
        *asked = Some(Instant::now());
        let fetched =
            timeout(PATIENCE, self.fetch()).await.unwrap_or_else(|_| Err("no answer in time".to_owned()));
        let result = match fetched {
            Ok(keys) => {
                tracing::debug!(keys = keys.len(), "JWKS fetched");
                self.keys.store(Arc::new(keys));
                self.health.up(PART);
                "fetched"
            }
            Err(error) => {
                tracing::warn!(url = self.url, error, "JWKS not fetched; the keys it gave last are used");
                if self.keys.load().len() == 0 {
                    self.health.down(PART, format!("{}: {error}", self.url));
                }
                "failed"
            }
        };
        metrics::counter!("weft_access_jwks_fetches_total", "result" => result).increment(1);
    }

    async fn fetch(&self) -> Result<Keys, String> {
        let answer = self.client.get(&self.url).send().await.map_err(|error| words(&error))?;
        if !answer.status().is_success() {
            return Err(format!("it answered {}", answer.status()));
        }
        Keys::of_jwks(&super::http::body(answer, BYTES_MAX).await?)
    }

    /// Keeps the keys fresh until `drain` turns true. Cancel-safe.
    pub(super) async fn run(&self, mut drain: watch::Receiver<bool>) {
        loop {
            self.refresh().await;
            let pause = if self.keys.load().len() == 0 { PAUSE } else { self.refresh };
            tokio::select! {
                biased;
                _ = drain.wait_for(|drain| *drain) => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}
