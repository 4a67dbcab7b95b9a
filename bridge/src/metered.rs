//! The packet rate of a listener's connections: each has a meter of its own, beside those of its client and user.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use event::access::{Asking, Exchange, Gate, Step};
use event::{Bucket, Meter, Pending, Principal, Rate};

/// The meter of one new connection.
pub(crate) fn meter(packets: Option<Rate>) -> Option<Arc<Meter>> {
    let bucket = Bucket::new(packets?, Instant::now());
    Some(Arc::new(Meter { packets: Some(bucket), bytes: None }))
}

/// `gate`, for a connection with this `meter`: who comes in by it may send no more than that.
pub(crate) fn metered(gate: Arc<dyn Gate>, meter: Option<Arc<Meter>>) -> Arc<dyn Gate> {
    match meter {
        None => gate,
        Some(meter) => Arc::new(Metered { gate, meter }),
    }
}

struct Metered {
    gate: Arc<dyn Gate>,
    meter: Arc<Meter>,
}

impl Gate for Metered {
    fn admit(&self, asking: Asking) -> Pending<Principal> {
        let (admitted, meter) = (self.gate.admit(asking), Arc::clone(&self.meter));
        Box::pin(async move { admitted.await.map(|who| limited(who, meter)) })
    }

    fn exchange(&self, asking: Asking, method: &str) -> Option<Box<dyn Exchange>> {
        let exchange = self.gate.exchange(asking, method)?;
        Some(Box::new(MeteredExchange { exchange, meter: Arc::clone(&self.meter) }))
    }
}

struct MeteredExchange {
    exchange: Box<dyn Exchange>,
    meter: Arc<Meter>,
}

impl Exchange for MeteredExchange {
    fn step(&mut self, data: Bytes) -> Pending<Step> {
        let (step, meter) = (self.exchange.step(data), Arc::clone(&self.meter));
        Box::pin(async move {
            Ok(match step.await? {
                Step::Done(who, data) => Step::Done(limited(who, meter), data),
                more @ Step::More(_) => more,
            })
        })
    }
}

fn limited(mut who: Principal, meter: Arc<Meter>) -> Principal {
    who.allowance = who.allowance.and(meter);
    who
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
