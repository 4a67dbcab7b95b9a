//! Two Wefts over one RocketMQ: each gets the events of a route for its own subscribers, and they share what a bridge
//! brings in. One is killed: the other takes over, and nothing is lost to anybody.

use std::time::{Duration, Instant};

use tests::actors::{self, Actor, Publishing, Subscribing};
use tests::raw::Client;
use tests::real::{RocketMq, Tool, needs};
use tests::weft::Setup;
use tests::wire::{Connect, Publish};
use tests::{Ledger, Promise, Weft, eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_wefts_share_a_cluster_and_one_is_killed() {
    if !needs(&[Tool::Java]) {
        return;
    }
    let rocketmq = RocketMq::start("5.3.3").await;
    let mut one = node(&rocketmq, "a").await;
    let mut two = node(&rocketmq, "b").await;
    for weft in [&mut one, &mut two] {
        weft.wait_ready().await;
    }
    let (stored, bridged) = (Ledger::new(), Ledger::new());
    let readers = [
        subscribe(&one, "on-a", "stored/#", 0, &stored),
        subscribe(&two, "on-b", "stored/#", 0, &stored),
        // Whoever gets it: it is one reader in the books.
        subscribe(&one, "either", "back/#", 1, &bridged),
        subscribe(&two, "either", "back/#", 1, &bridged),
    ];
    let mut writers = [("stored", &stored), ("meters", &bridged)].map(|(topic, ledger)| {
        let plan = Publishing {
            connect: Connect::v5(&format!("writer-{topic}")).persistent(),
            topics: (0..32).map(|n| (format!("{topic}/{n}"), 1)).collect(),
            window: 50,
            every: Duration::from_millis(10),
        };
        actors::publish(one.mqtt, plan, ledger.clone())
    });
    for writer in &mut writers {
        writer.ready().await;
    }
    eventually("both have some of the queues", || async {
        (queues(&one).await? >= 2.0 && queues(&two).await? >= 2.0).then_some(())
    })
    .await;
    let before = stored.arrivals("on-b");
    eventually("both get the events of the route", || async {
        (stored.arrivals("on-b") > before + 100 && stored.arrivals("on-a") > 100).then_some(())
    })
    .await;

    two.kill().await;
    let killed = Instant::now();
    // All that is new comes to the one that is left.
    let (mut writer, _) = Client::connect(one.mqtt, &Connect::v5("late")).await.unwrap();
    for n in 0..64 {
        let topic = format!("meters/{}", n % 32);
        let data = bridged.sent(&topic, "late", n);
        writer.publish(Publish::new(&topic, data, 1)).await.unwrap();
        bridged.acked(&topic, "late", n);
    }
    eventually("the other takes over", || async {
        let late = bridged.missing("either", |_| true);
        (!late.iter().any(|(_, message)| message.publisher == "late")).then_some(())
    })
    .await;
    eprintln!("what came behind the kill of one Weft was all at the other {:?} after it", killed.elapsed());

    two.launch();
    two.wait_ready().await;
    for writer in writers {
        writer.finish().await;
    }
    for reader in ["on-a", "on-b"] {
        stored.complete(reader, |_| true).await;
        stored.check(reader, |_| Some(Promise::AtLeastOnce));
    }
    bridged.complete("either", |_| true).await;
    for reader in readers {
        reader.finish().await;
    }
}

async fn node(rocketmq: &RocketMq, name: &str) -> Weft {
    let config = format!(
        "[rocketmq.main]\nname_servers = [\"{}\"]\nnode = \"{name}\"\n[[route]]\ntopic = \"stored/#\"\nstore = \"main\"\n\
         [bridge.up]\ncluster = \"main\"\n[[bridge.up.out]]\nfilter = \"meters/#\"\ntopic = \"Meters\"\n\
         [[bridge.up.in]]\ntopic = \"Meters\"\nto = \"back/{{origin}}\"\n",
        rocketmq.name_server
    );
    Setup::new().config(config).start().await
}

/// Queues that the bridge of a Weft consumes.
async fn queues(weft: &Weft) -> Option<f64> {
    weft.series("weft_rocketmq_consumed_queues{part=\"rocketmq/up\"}").await
}

fn subscribe(weft: &Weft, client: &str, filter: &str, above: usize, ledger: &Ledger) -> Actor {
    let connect = Connect::v5(client).persistent();
    let plan = Subscribing { connect, filter: filter.to_owned(), qos: 1, above, flap: None };
    actors::subscribe(weft.mqtt, plan, ledger.clone())
}
