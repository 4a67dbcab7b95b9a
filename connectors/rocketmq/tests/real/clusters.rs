//! Clusters of several brokers, and TLS.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_broker_takes_over_from_one_that_is_deaf() {
    if !RocketMq::is_available() {
        return;
    }
    let rocketmq = RocketMq::start("5.3.3", &["--mode", "masters"]);
    // Names are in a namespace, and bodies above 1 KiB are compressed.
    let options = ClusterOptions {
        namespace: Some("ns".into()),
        compress_above: Some(ByteLimit::kib(1)),
        request_ms: 1000,
        ..cluster(&rocketmq)
    };
    let (store, running) = Running::store_on(&options).await;
    let mut sent = 0;
    let mut events = |count: usize| {
        let event = |n: usize| {
            event(&format!("house/{}", n % 64), format!("{n} {}", "long ".repeat(n % 3 * 300)).into())
        };
        sent += count;
        (sent - count..sent).map(event).collect::<Vec<Event>>()
    };
    let mut all = events(256);
    let (append, receipt) = new_append(all.clone());
    store.append(append).await;
    assert!(matches!(timeout(PATIENCE, receipt).await.unwrap(), Outcome::Kept));
    running.until_published(256).await;

    // Name servers keep a broker that is stopped, as its connection is open.
    rocketmq.signal_to("broker1", "STOP");
    let stopped = Instant::now();
    for _ in 0..4 {
        let more = events(64);
        all.extend(more.iter().cloned());
        let (append, receipt) = new_append(more);
        store.append(append).await;
        assert!(
            matches!(timeout(PATIENCE, receipt).await.unwrap(), Outcome::Kept),
            "another broker is there"
        );
    }
    eprintln!("256 events were sent {:?} after one of two brokers was stopped", stopped.elapsed());
    running.until_health(|reason| reason.is_some()).await;
    rocketmq.signal_to("broker1", "CONT");
    running.until_health(|reason| reason.is_none()).await;
    // What the deaf one had taken in and did not answer was sent to the other as well, and comes twice.
    let mut back: BTreeMap<u64, Event> = BTreeMap::new();
    let mut count = all.len();
    while back.len() < all.len() {
        let published = running.until_published(count).await;
        count = published.len() + 1;
        back = published.into_iter().map(|p| (p.event.parts().stamp, p.event)).collect();
    }
    for event in &all {
        assert_eq!(back.get(&event.parts().stamp), Some(event), "an event comes back as it was");
    }
    running.stop().await;

    // Java inflates, and both brokers have something.
    let messages = consume_all(&rocketmq, "java-ns", "ns%Weft", all.len());
    let bodies: BTreeSet<&str> = messages.iter().map(|message| &*message.body).collect();
    let expected: Vec<&str> = all.iter().map(|event| std::str::from_utf8(event.data()).unwrap()).collect();
    assert!(bodies.into_iter().eq(expected.into_iter().collect::<BTreeSet<_>>()));

    rocketmq.send("ns%Commands", &[], &["go".to_owned()]);
    let rules = BridgeOptions { inward: vec![in_rule("Commands", "{topic}/x")], ..BridgeOptions::default() };
    let bridge = Running::launch(&options, "ns", &rules);
    assert_eq!(bridge.until_published(1).await[0].event.topic().as_str(), "Commands/x");
    bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn brokers_that_take_tls_only_are_talked_to_over_tls() {
    if !RocketMq::is_available() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let authority = |file: &str| {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        std::fs::write(path(file), params.self_signed(&key).unwrap().pem()).unwrap();
        Issuer::new(params, key)
    };
    let (issuer, _) = (authority("ca.pem"), authority("other.pem"));
    let key = KeyPair::generate().unwrap();
    let server =
        CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    std::fs::write(path("server.pem"), server.pem()).unwrap();
    std::fs::write(path("server.key"), key.serialize_pem()).unwrap();
    let rocketmq = RocketMq::start("5.3.3", &["--tls", folder.path().to_str().unwrap()]);
    let with = |ca: &str| ClusterOptions { tls_ca_file: Some(path(ca)), ..cluster(&rocketmq) };

    let (store, running) = Running::store_on(&with("ca.pem")).await;
    let events: Vec<Event> = (0..50).map(|n| event("house/1", vec![n as u8; n * 2000].into())).collect();
    let (append, receipt) = new_append(events.clone());
    store.append(append).await;
    assert!(matches!(timeout(PATIENCE, receipt).await.unwrap(), Outcome::Kept));
    let published = running.until_published(events.len()).await;
    assert!(published.iter().map(|publish| &publish.event).eq(&events), "one topic comes back in order");
    running.stop().await;

    let rules = BridgeOptions { inward: vec![in_rule("Weft", "x")], ..BridgeOptions::default() };
    for (cluster, reason) in [(with("other.pem"), "certificate"), (cluster(&rocketmq), "127.0.0.1")] {
        let bridge = Running::launch(&cluster, "tls", &rules);
        bridge.until_health(|told| told.as_ref().is_some_and(|told| told.contains(reason))).await;
        assert_eq!(bridge.hub.published().len(), 0);
        bridge.stop().await;
    }
}
