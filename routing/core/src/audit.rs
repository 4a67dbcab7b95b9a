//! Publishes what the audit tells, as CloudEvents that the embedded log keeps.

use std::sync::Arc;

use bytes::Bytes;
use event::audit::{TOPICS, Told};
use event::event::{Attributes, Meta, rfc3339};
use event::hub::Publish;
use event::{Event, Guarantee, Origin, Parts, Principal, TopicName};
use tokio::task::JoinSet;

use crate::publish::{Marks, Publisher};
use crate::shared::{Shared, now_ms};

/// Who publishes them.
const AUDITOR: &str = "$audit";

/// So many may wait for a slow store; then those that follow wait to be told, and are left out at their limit.
pub(crate) const WAITING: usize = 64;

/// Publishes one, in `tasks`: a store that is slow holds up nothing else.
pub(crate) fn publish(shared: &Arc<Shared>, told: &Told, tasks: &mut JoinSet<()>) {
    shared.metrics.audit_left_out.increment(told.left_out);
    let Some(event) = event(shared, told) else { return };
    let publish = Publish { event, guarantee: Guarantee::AtLeastOnce, retain: false, id: None };
    let who = Principal { origin: Origin::Weft, ..Principal::anonymous(AUDITOR) };
    let admission = Publisher::default().publish(shared, &who, Marks::default(), vec![publish]);
    let shared = Arc::clone(shared);
    tasks.spawn(async move {
        match admission.receipt().await.await.whole() {
            Ok(()) => shared.metrics.audit_told.increment(1),
            Err(reject) => {
                tracing::warn!(%reject, "an audit event is lost");
                shared.metrics.audit_lost.increment(1);
            }
        }
    });
}

fn event(shared: &Shared, told: &Told) -> Option<Event> {
    let kind = told.notice.kind().as_str();
    let stamp = shared.stamps.clone().take();
    let received_ms = now_ms();
    let attributes = Attributes {
        id: format!("{stamp:016x}").into(),
        source: "/weft".into(),
        ty: format!("weft.audit.{kind}").into(),
        subject: None,
        time: Some(rfc3339(received_ms).into()),
        dataschema: None,
        extensions: Vec::new(),
    };
    let meta = Meta {
        attributes: Some(attributes),
        content_type: Some("application/json".into()),
        ..Meta::default()
    };
    Some(Event::new(Parts {
        topic: TopicName::parse(format!("{TOPICS}{kind}")).ok()?,
        data: Bytes::from(serde_json::to_vec(told).ok()?),
        stamp,
        received_ms,
        expires_ms: 0,
        publisher: Arc::from(AUDITOR),
        meta: Some(Box::new(meta)),
    }))
}
