//! Where a topic's queues are.

use std::collections::BTreeMap;
use std::sync::Arc;

use remoting::CREATED_QUEUES;
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
    /// The addresses of each broker, by their ids: 0 is the master, others are its replicas.
    brokers: BTreeMap<Arc<str>, BTreeMap<i64, Arc<str>>>,
    /// The cluster of each broker.
    clusters: BTreeMap<Arc<str>, Arc<str>>,
}

/// One queue.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Queue {
    /// The name of its broker.
    pub(crate) broker: Arc<str>,
    /// Its number at that broker.
    pub(crate) id: i32,
    /// The address of the broker's master; of a replica, if there is no master now.
    pub(crate) addr: Arc<str>,
}

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
    cluster: Option<Arc<str>>,
}

const MASTER: i64 = 0;

impl Route {
    /// Reads a name server's answer.
    pub(crate) fn parse(json: &[u8]) -> Result<Self, serde_json::Error> {
        let data: Data = serde_json::from_slice(&remoting::strict_json(json))?;
        let mut route = Self::default();
        for BrokerData { broker_name, broker_addrs, cluster } in data.broker_datas {
            if let Some(cluster) = cluster {
                route.clusters.insert(Arc::clone(&broker_name), cluster);
            }
            let addrs = broker_addrs.into_iter().filter_map(|(id, addr)| Some((id.parse().ok()?, addr)));
            route.brokers.insert(broker_name, addrs.collect());
        }
        for queues in &data.queue_datas {
            // Queues without a master can be read: members of a group have to agree on which there are.
            let addrs = route.brokers.get(&queues.broker_name);
            let Some((id, addr)) = addrs.and_then(|addrs| addrs.first_key_value()) else { continue };
            let list = |count: i32, allowed: i32| {
                let count = if queues.perm & allowed == 0 { 0 } else { count.min(QUEUES_MAX) };
                (0..count).map(|id| Queue {
                    broker: Arc::clone(&queues.broker_name),
                    id,
                    addr: Arc::clone(addr),
                })
            };
            if *id == MASTER {
                route.writable.extend(list(queues.write_queue_nums, WRITE));
            }
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

    /// The cluster of a broker, if the name server said it.
    pub(crate) fn cluster(&self, broker: &str) -> Option<&Arc<str>> {
        self.clusters.get(broker)
    }

    /// The address of a broker's replica, if there is one of this id.
    pub(crate) fn replica(&self, broker: &str, id: i64) -> Option<&Arc<str>> {
        self.brokers.get(broker)?.get(&id)
    }

    /// The addresses of its queues.
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
            {"brokerAddrs":{0:"127.0.0.1:1"},"brokerName":"a","cluster":"C"},
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
        let readable = show(&route.readable);
        assert_eq!(readable[..2], ["a0@127.0.0.1:1", "b0@127.0.0.1:2"]);
        assert_eq!((readable.len(), &*readable[9]), (10, "orphan7@127.0.0.1:4"));
        assert_eq!(route.replica("b", 1).map(|addr| &**addr), Some("127.0.0.1:3"));
        assert_eq!(route.replica("b", 2).or(route.replica("c", 0)), None);
        assert_eq!(route.cluster("a").map(|name| &**name), Some("C"));
        let new = route.of_new_topic();
        assert_eq!((new.writable.len(), new.readable.len(), new.to_be_created), (2, 0, true));
    }
}
