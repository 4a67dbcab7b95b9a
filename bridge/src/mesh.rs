//! EventMesh, composed: what its protocols share, and what is served on the listeners of each.

mod clients;
mod figures;
mod pages;

use std::sync::Arc;

use anyhow::Context as _;
use axum::Router;
use axum::middleware::from_fn_with_state;
use config::Config;
use event::access::Gate;
use event::hub::Hub;
use eventmesh::{Clients, Requester, TopicList};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::task::JoinSet;

use crate::admin::Doorman;
use crate::listen::{self, Bound, Grpc, Http, Listening, Protocol, Stop};
use crate::metered::speaking;
use crate::origins::of_pages;

/// The settings of EventMesh's protocols.
pub(crate) struct Settings {
    common: Arc<eventmesh::Options>,
    http: Arc<http_front::Options>,
    webhook: webhook::Options,
    by_http: eventmesh_http::Options,
    by_grpc: grpc::Options,
    by_tcp: Arc<tcp::Options>,
    asks: bool,
}

impl Settings {
    pub(crate) fn of(config: &Config) -> Self {
        Self {
            common: Arc::new(config.eventmesh.clone()),
            http: Arc::new(config.http.options.clone()),
            webhook: config.webhook.clone(),
            by_http: config.eventmesh_http.clone(),
            by_grpc: config.grpc.clone(),
            by_tcp: Arc::new(config.eventmesh_tcp.clone()),
            asks: config.access().has_proofs(),
        }
    }
}

/// Where EventMesh is built in.
pub(crate) struct Site<'a> {
    pub(crate) gate: Arc<dyn Gate>,
    pub(crate) hub: Arc<dyn Hub>,
    pub(crate) metrics: PrometheusHandle,
    pub(crate) listening: &'a [Listening],
    pub(crate) stop: &'a Stop,
}

/// Serves what of `bound` speaks a protocol of EventMesh. Not cancel-safe: dropped, some is served.
pub(crate) async fn start(
    bound: &mut Vec<Bound>,
    settings: Settings,
    site: Site<'_>,
    parts: &mut JoinSet<()>,
) -> anyhow::Result<()> {
    let Settings { common, http, webhook, by_http, by_grpc, by_tcp, asks } = settings;
    let Site { gate, hub, metrics, listening, stop } = site;
    let (clients, topics, drain) = (Clients::default(), TopicList::default(), &stop.drain);
    let requester = Requester::start(Arc::clone(&hub), &common, drain.clone()).await;
    let (requester, replies) = requester.context("EventMesh's requests")?;
    parts.spawn(replies);
    let (for_hooks, shown) = (Arc::clone(&hub), clients.clone());
    let (hooks, posts) = webhook::Hooks::new(for_hooks, shown, webhook, &common, drain.clone())?;
    parts.spawn(posts);

    let by_http = eventmesh_http::router(eventmesh_http::Parts {
        gate: speaking(Arc::clone(&gate), event::Protocol::EventmeshHttp),
        hub: Arc::clone(&hub),
        requester: requester.clone(),
        hooks: hooks.clone(),
        clients: clients.clone(),
        topics: topics.clone(),
        options: by_http,
        common: Arc::clone(&common),
    });
    let for_operators = pages::router(pages::Board {
        doorman: Doorman { gate: Arc::clone(&gate), audit: hub.audit() },
        hub: Arc::clone(&hub),
        clients: clients.clone(),
        topics,
        figures: figures::Figures::new(metrics),
        configuration: Arc::new(figures::configuration(listening, &common, asks)),
    });
    let over_http = |router: Router| {
        let origins: Arc<[String]> = Arc::from(http.origins.as_slice());
        let router = router.layer(from_fn_with_state(origins, of_pages));
        Protocol::Http(Http { router, options: Arc::clone(&http) })
    };
    listen::serve(bound, config::Protocol::EventmeshHttp, &over_http(by_http), stop, parts);
    listen::serve(bound, config::Protocol::EventmeshAdmin, &over_http(for_operators), stop, parts);

    let (for_grpc, asker, places) = (Arc::clone(&hub), requester.clone(), (hooks, clients.clone()));
    let services = grpc::Services::new(for_grpc, asker, places, by_grpc, (*common).clone()).await;
    let gate_of_grpc = speaking(Arc::clone(&gate), event::Protocol::Grpc);
    let speak = Protocol::Grpc(Grpc { gate: gate_of_grpc, services });
    listen::serve(bound, config::Protocol::Grpc, &speak, stop, parts);
    let gate = speaking(gate, event::Protocol::EventmeshTcp);
    let speak = Protocol::EventmeshTcp(tcp::Parts { gate, hub, requester, clients, options: by_tcp, common });
    listen::serve(bound, config::Protocol::EventmeshTcp, &speak, stop, parts);
    Ok(())
}
