//! A broker that stands in for DeFiBus', and the published client of DeFiBus, by way of `tests/rocketmq/rmq.sh`.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{JavaClient, RocketMq};
use crate::weft::root;

/// A name server and a broker of the cluster `GZ-defibus`. Gone when dropped.
#[derive(Debug)]
pub struct Defibus {
    rocketmq: RocketMq,
}

impl Defibus {
    /// Starts one with these topics: brokers of DeFiBus make none by themselves.
    pub async fn start(topics: &[&str]) -> Self {
        let rocketmq = RocketMq::start("defibus").await;
        let mut broker = TcpStream::connect(&rocketmq.broker).await.unwrap();
        for topic in topics {
            // UPDATE_AND_CREATE_TOPIC.
            let header = format!(
                r#"{{"code":17,"flag":0,"language":"OTHER","opaque":1,"version":293,"extFields":{{"topic":"{topic}","defaultTopic":"TBW102","readQueueNums":"2","writeQueueNums":"2","perm":"6","topicFilterType":"SINGLE_TAG","topicSysFlag":"0","order":"false"}}}}"#
            );
            let len = u32::try_from(header.len()).unwrap();
            broker.write_u32(len + 4).await.unwrap();
            broker.write_u32(len).await.unwrap();
            broker.write_all(header.as_bytes()).await.unwrap();
            let len = broker.read_u32().await.unwrap();
            let mut answer = vec![0; usize::try_from(len).unwrap()];
            broker.read_exact(&mut answer).await.unwrap();
            let answer = String::from_utf8_lossy(&answer).into_owned();
            assert!(answer.contains(r#""code":0"#), "{topic}: {answer}");
        }
        Self { rocketmq }
    }

    /// Address of the name server.
    pub fn name_server(&self) -> &str {
        &self.rocketmq.name_server
    }

    /// Kills the broker (SIGKILL).
    pub async fn kill_broker(&self) {
        self.rocketmq.kill_broker().await;
    }

    /// Starts the broker again and waits until it answers.
    pub async fn restart_broker(&self) {
        self.rocketmq.restart_broker().await;
    }

    /// A client in a role, as `Defibus.java` has them; started when this returns.
    pub async fn client(&self, role: &str, topic: &str, more: &str) -> JavaClient {
        let mut command = self.rocketmq.java("Defibus");
        command.args([self.name_server(), "GZ", role, topic, more]);
        JavaClient::start(role, command).await
    }
}

pub(super) fn is_there() -> bool {
    root().join("../shared/defibus/standin/StandIn.java").exists()
}
