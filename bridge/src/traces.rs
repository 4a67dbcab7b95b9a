//! `/admin/trace`: follows an event through the log of this Weft, as `weft trace` does.

use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Response;
use axum::routing::get;
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Semaphore;

use crate::admin::{found, problem};
use crate::log::progress::Progress;
use crate::log::trace::{Wanted, follow};

/// The log, and who may walk it.
#[derive(Clone)]
pub(crate) struct Traces {
    data: PathBuf,
    options: Arc<routing::Options>,
    /// One at a time: each takes as much memory as a start.
    turn: Arc<Semaphore>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    id: String,
    source: Option<String>,
}

impl Traces {
    pub(crate) fn new(data: PathBuf, options: routing::Options) -> Self {
        Self { data, options: Arc::new(options), turn: Arc::new(Semaphore::new(1)) }
    }

    /// The page, behind the guard of the admin pages.
    pub(crate) fn router(self) -> Router {
        Router::new().route("/admin/trace", get(trace)).with_state(self)
    }
}

async fn trace(State(traces): State<Traces>, asked: Result<Query<Asked>, QueryRejection>) -> Response {
    let Asked { id, source } = match asked {
        Ok(asked) => asked.0,
        Err(error) => return problem(StatusCode::BAD_REQUEST, "query", &error.body_text()),
    };
    let Ok(turn) = Arc::clone(&traces.turn).try_acquire_owned() else {
        return problem(StatusCode::TOO_MANY_REQUESTS, "busy", "another trace is under way; try again later");
    };
    let wanted = Wanted { id, source };
    let work = move || {
        // Held until the work is over, also if nobody waits for it any more.
        let _turn = turn;
        let outcome = follow(&traces.data, &traces.options, &wanted, &mut |_| Progress::none());
        (wanted, outcome)
    };
    match tokio::task::spawn_blocking(work).await {
        Ok((wanted, Ok(outcome))) if outcome.traced.is_empty() => {
            problem(StatusCode::NOT_FOUND, "not-found", &outcome.nothing(&wanted.id))
        }
        Ok((_, Ok(outcome))) => found(&json!({ "records": outcome.traced, "damaged": outcome.damaged })),
        Ok((_, Err(error))) => problem(StatusCode::SERVICE_UNAVAILABLE, "unavailable", &format!("{error:#}")),
        Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, "failed", &error.to_string()),
    }
}
