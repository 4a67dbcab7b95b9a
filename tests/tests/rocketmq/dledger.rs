//! A group of three brokers loses its leader under load: it elects another, and nothing that Weft acknowledged is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tests::actors::{self, Publishing, Subscribing};
use tests::real::{RocketMq, Tool, needs};
use tests::weft::Setup;
use tests::wire::Connect;
use tests::{Ledger, Promise, eventually, pause};

/// A route into the group and a bridge through it, 60 publishes a second each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_is_killed_and_nothing_acknowledged_is_lost() {
    if !needs(&[Tool::Java]) {
        return;
    }
    let rocketmq = RocketMq::start_with("5.3.3", &["--mode", "dledger"]).await;
    let config = format!(
        "[rocketmq.main]\nname_servers = [\"{}\"]\n[rocketmq.main.store]\ntopic = \"Stored\"\ndeadline_ms = 60000\n\
         [[route]]\ntopic = \"stored/#\"\nstore = \"main\"\n[bridge.up]\ncluster = \"main\"\n\
         [[bridge.up.out]]\nfilter = \"meters/#\"\ntopic = \"Meters\"\n\
         [[bridge.up.in]]\ntopic = \"Meters\"\nto = \"back/{{origin}}\"\n",
        rocketmq.name_server
    );
    let mut weft = Setup::new().config(config).start().await;
    weft.wait_ready().await;
    let (stored, bridged) = (Ledger::new(), Ledger::new());
    let reads = [("stored/#", 0, &stored), ("back/#", 1, &bridged)].map(|(filter, above, ledger)| {
        let connect = Connect::v5(&format!("reader-{above}")).persistent();
        let plan = Subscribing { connect, filter: filter.to_owned(), qos: 1, above, flap: None };
        actors::subscribe(weft.mqtt, plan, ledger.clone())
    });
    let writes = [("stored", &stored), ("meters", &bridged)].map(|(topic, ledger)| {
        let plan = Publishing {
            connect: Connect::v5(&format!("writer-{topic}")).persistent(),
            topics: (0..8).map(|n| (format!("{topic}/{n}"), 1)).collect(),
            window: 50,
            every: Duration::from_millis(16),
        };
        actors::publish(weft.mqtt, plan, ledger.clone())
    });
    eventually("events go both ways", || async {
        (stored.arrivals("reader-0") > 100 && bridged.arrivals("reader-1") > 100).then_some(())
    })
    .await;
    let acks = Gaps::of({
        let stored = stored.clone();
        move || stored.acknowledged()
    });
    let arrivals = Gaps::of({
        let bridged = bridged.clone();
        move || bridged.arrivals("reader-1")
    });
    let leader = rocketmq.leader().await;
    rocketmq.kill(&leader).await;
    let killed = Instant::now();
    let told = weft.until_ready_says(503, "main").await;
    eprintln!("/ready told of it after {told:?}");
    let before = (stored.acknowledged(), bridged.arrivals("reader-1"));
    eventually("events go both ways again", || async {
        (stored.acknowledged() > before.0 + 100 && bridged.arrivals("reader-1") > before.1 + 100)
            .then_some(())
    })
    .await;
    eprintln!("events went both ways again {:?} after the kill", killed.elapsed());
    weft.wait_ready().await;
    eprintln!("/ready told of that {:?} after the kill", killed.elapsed());
    for writer in writes {
        writer.finish().await;
    }
    stored.complete("reader-0", |_| true).await;
    bridged.complete("reader-1", |_| true).await;
    stored.check("reader-0", |_| Some(Promise::AtLeastOnce));
    bridged.check("reader-1", |_| Some(Promise::AtLeastOnce));
    let (acks, arrivals) = (acks.finish().await, arrivals.finish().await);
    // The Java client of the same version takes 9 to 10 s where nothing else runs.
    eprintln!("longest time without an acknowledged publish {acks:?}, without an event back {arrivals:?}");
    for reader in reads {
        reader.finish().await;
    }
}

/// Watches how long a count stands still.
struct Gaps {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<Duration>,
}

impl Gaps {
    fn of(count: impl Fn() -> usize + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let (mut last, mut since, mut longest) = (count(), Instant::now(), Duration::ZERO);
            while !stopped.load(Ordering::Relaxed) {
                pause(Duration::from_millis(20)).await;
                let now = count();
                if now != last {
                    longest = longest.max(since.elapsed());
                    (last, since) = (now, Instant::now());
                }
            }
            longest
        });
        Self { stop, task }
    }

    async fn finish(self) -> Duration {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}
