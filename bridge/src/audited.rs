//! The gate, watched: the audit tells of whoever is not let in.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use event::access::{Asking, Credentials, Exchange, Gate, Step};
use event::audit::Wanted;
use event::{Audit, Pending, Principal, Reject};

/// `gate`, of whose refusals `audit` tells.
pub(crate) fn audited(gate: Arc<dyn Gate>, audit: Audit) -> Arc<dyn Gate> {
    Arc::new(Audited { gate, audit })
}

struct Audited {
    gate: Arc<dyn Gate>,
    audit: Audit,
}

impl Gate for Audited {
    fn admit(&self, asking: Asking) -> Pending<Principal> {
        let asks = Asks::new(&asking, self.audit.clone());
        let admitted = self.gate.admit(asking);
        Box::pin(async move { admitted.await.inspect_err(|reject| asks.refused(reject)) })
    }

    fn exchange(&self, asking: Asking, method: &str) -> Option<Box<dyn Exchange>> {
        let asks = Asks::new(&asking, self.audit.clone());
        let exchange = self.gate.exchange(asking, method)?;
        Some(Box::new(AuditedExchange { exchange, asks }))
    }
}

struct AuditedExchange {
    exchange: Box<dyn Exchange>,
    asks: Asks,
}

impl Exchange for AuditedExchange {
    fn step(&mut self, data: Bytes) -> Pending<Step> {
        let (step, asks) = (self.exchange.step(data), self.asks.clone());
        Box::pin(async move { step.await.inspect_err(|reject| asks.refused(reject)) })
    }
}

/// Somebody who asks to come in.
#[derive(Clone)]
struct Asks {
    /// Under the name and user that it says it has.
    who: Principal,
    audit: Audit,
}

impl Asks {
    fn new(asking: &Asking, audit: Audit) -> Self {
        let user = match &asking.credentials {
            Credentials::Password { user, .. } => user.as_deref().map(Arc::from),
            Credentials::None | Credentials::Token(_) => None,
        };
        let peer = Some(asking.source.peer());
        Self { who: Principal { user, peer, ..Principal::anonymous(asking.client.clone()) }, audit }
    }

    fn refused(&self, reject: &Reject) {
        self.audit.refused(&self.who, Wanted::Connect, None, reject, Instant::now());
    }
}
