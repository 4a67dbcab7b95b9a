//! What a connection adds to whom the gate lets in by it: a meter of its own beside those of its client and user, for the
//! packet rate of a listener; and the protocol that it speaks.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use event::access::{Asking, Exchange, Gate, Step};
use event::{Bucket, Meter, Pending, Principal, Protocol, Rate};

/// The meter of one new connection.
pub(crate) fn meter(packets: Option<Rate>) -> Option<Arc<Meter>> {
    let bucket = Bucket::new(packets?, Instant::now());
    Some(Arc::new(Meter { packets: Some(bucket), bytes: None }))
}

/// `gate`, for a connection with this `meter`: who comes in by it may send no more than that.
pub(crate) fn metered(gate: Arc<dyn Gate>, meter: Option<Arc<Meter>>) -> Arc<dyn Gate> {
    match meter {
        None => gate,
        Some(meter) => Arc::new(Adding { gate, more: More { meter: Some(meter), protocol: None } }),
    }
}

/// `gate`, for connections that speak `protocol`.
pub(crate) fn speaking(gate: Arc<dyn Gate>, protocol: Protocol) -> Arc<dyn Gate> {
    Arc::new(Adding { gate, more: More { meter: None, protocol: Some(protocol) } })
}

struct Adding {
    gate: Arc<dyn Gate>,
    more: More,
}

/// What is added.
#[derive(Clone)]
struct More {
    meter: Option<Arc<Meter>>,
    protocol: Option<Protocol>,
}

impl Gate for Adding {
    fn admit(&self, asking: Asking) -> Pending<Principal> {
        let (admitted, more) = (self.gate.admit(asking), self.more.clone());
        Box::pin(async move { admitted.await.map(|who| more.to(who)) })
    }

    fn exchange(&self, asking: Asking, method: &str) -> Option<Box<dyn Exchange>> {
        let exchange = self.gate.exchange(asking, method)?;
        Some(Box::new(AddingExchange { exchange, more: self.more.clone() }))
    }
}

struct AddingExchange {
    exchange: Box<dyn Exchange>,
    more: More,
}

impl Exchange for AddingExchange {
    fn step(&mut self, data: Bytes) -> Pending<Step> {
        let (step, more) = (self.exchange.step(data), self.more.clone());
        Box::pin(async move {
            Ok(match step.await? {
                Step::Done(who, data) => Step::Done(more.to(who), data),
                step @ Step::More(_) => step,
            })
        })
    }
}

impl More {
    fn to(self, mut who: Principal) -> Principal {
        if let Some(meter) = self.meter {
            who.allowance = who.allowance.and(meter);
        }
        who.protocol = self.protocol.or(who.protocol);
        who
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};
    use std::time::Duration;

    use event::access::{Credentials, OpenGate};
    use event::{ClientId, Source};

    use super::*;

    #[tokio::test]
    async fn who_comes_in_by_a_metered_connection_has_its_meter() {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let source = Source { address, listener: "plant".into(), certificate: None };
        let ask =
            || Asking { client: ClientId::from("c"), source: source.clone(), credentials: Credentials::None };
        let gate: Arc<dyn Gate> = Arc::new(OpenGate);
        let free = metered(Arc::clone(&gate), meter(None)).admit(ask()).await.unwrap();
        assert!(!free.allowance.is_limited());
        let slow = metered(gate, meter(Rate::per_second(10))).admit(ask()).await.unwrap();
        let now = Instant::now() + Duration::from_secs(1);
        assert_eq!(slow.allowance.charge(15, 0, now), Duration::from_millis(500));
    }
}
