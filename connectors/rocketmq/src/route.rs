//! Where a topic's queues are.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;

/// The queues of a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Route {
    /// Queues that may be written, in a fixed order.
    pub(crate) writable: Vec<Queue>,
    /// Queues that may be read, in a fixed order.
    pub(crate) readable: Vec<Queue>,
    /// The topic is not there yet: the first message creates it.
    pub(crate) to_be_created: bool,
}

/// One queue.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Queue {
    /// The name of its broker.
    pub(crate) broker: Arc<str>,
    /// Its number at that broker.
    pub(crate) id: i32,
    /// The address of the broker's master.
    pub(crate) addr: Arc<str>,
}

/// Queues that a broker gives a topic that it creates.
pub(crate) const CREATED_QUEUES: i32 = 4;

const READ: i32 = 4;
const WRITE: i32 = 2;
/// More queues than any topic has: what a damaged route may not exceed.
const QUEUES_MAX: i32 = 4096;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    #[serde(default)]
    queue_datas: Vec<QueueData>,
    #[serde(default)]
    broker_datas: Vec<BrokerData>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct QueueData {
    broker_name: Arc<str>,
    read_queue_nums: i32,
    write_queue_nums: i32,
    perm: i32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BrokerData {
    broker_name: Arc<str>,
    broker_addrs: BTreeMap<String, Arc<str>>,
}

impl Route {
    /// Reads a name server's answer.
    pub(crate) fn parse(json: &[u8]) -> Result<Self, serde_json::Error> {
        let data: Data = serde_json::from_slice(json)?;
        let mut route = Self::default();
        for queues in &data.queue_datas {
            let broker = data.broker_datas.iter().find(|broker| broker.broker_name == queues.broker_name);
            let Some(addr) = broker.and_then(|broker| broker.broker_addrs.get("0")) else { continue };
            let list = |count: i32, allowed: i32| {
                let count = if queues.perm & allowed == 0 { 0 } else { count.min(QUEUES_MAX) };
                (0..count).map(|id| Queue {
                    broker: Arc::clone(&queues.broker_name),
                    id,
                    addr: Arc::clone(addr),
                })
            };
            route.writable.extend(list(queues.write_queue_nums, WRITE));
            route.readable.extend(list(queues.read_queue_nums, READ));
        }
        route.writable.sort();
        route.readable.sort();
        Ok(route)
    }

    /// The route of a topic that is made in the image of this one, the default topic's.
    pub(crate) fn of_new_topic(mut self) -> Self {
        self.writable.retain(|queue| queue.id < CREATED_QUEUES);
        self.readable.clear();
        self.to_be_created = true;
        self
    }

    /// The addresses of its brokers.
    pub(crate) fn addrs(&self) -> impl Iterator<Item = &Arc<str>> {
        self.writable.iter().chain(&self.readable).map(|queue| &queue.addr)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_as_a_name_server_writes_it() {
        let json = br#"{"brokerDatas":[
            {"brokerAddrs":{"0":"127.0.0.1:2","1":"127.0.0.1:3"},"brokerName":"b","cluster":"C","enableActingMaster":false},
            {"brokerAddrs":{"0":"127.0.0.1:1"},"brokerName":"a","cluster":"C"},
            {"brokerAddrs":{"1":"127.0.0.1:4"},"brokerName":"orphan","cluster":"C"}],
            "filterServerTable":{},"queueDatas":[
            {"brokerName":"b","perm":6,"readQueueNums":1,"topicSysFlag":0,"writeQueueNums":2},
            {"brokerName":"a","perm":4,"readQueueNums":1,"topicSysFlag":0,"writeQueueNums":1},
            {"brokerName":"orphan","perm":6,"readQueueNums":8,"topicSysFlag":0,"writeQueueNums":8}]}"#;
        let route = Route::parse(json).unwrap();
        let show = |queues: &[Queue]| {
            queues
                .iter()
                .map(|queue| format!("{}{}@{}", queue.broker, queue.id, queue.addr))
                .collect::<Vec<_>>()
        };
        assert_eq!(show(&route.writable), ["b0@127.0.0.1:2", "b1@127.0.0.1:2"]);
        assert_eq!(show(&route.readable), ["a0@127.0.0.1:1", "b0@127.0.0.1:2"]);
        let new = route.of_new_topic();
        assert_eq!((new.writable.len(), new.readable.len(), new.to_be_created), (2, 0, true));
    }
}
