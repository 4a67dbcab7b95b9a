//! The conversation of `tests/real/README.md` with rumqttc, in MQTT 3.1.1 and in 5. The two clients of that crate have
//! the same shape and no type in common.

use tests::PATIENCE;
use tests::Weft;
use tokio::sync::mpsc::{Receiver, channel};
use tokio::task::AbortHandle;
use tokio::time::timeout;

/// What a subscriber sees of a message.
#[derive(Debug, PartialEq, Eq)]
struct Message {
    topic: String,
    payload: Vec<u8>,
    qos: u8,
    retained: bool,
}

/// How a client is connected.
#[derive(Default)]
struct Connect {
    id: &'static str,
    persist: bool,
    will: Option<&'static str>,
}

/// Defines `mod $version` with a `Client`, and the conversation.
macro_rules! conversation {
    ($version:ident, $($path:ident)::+, $qos:ty, $options:expr, $topic:expr) => {
        mod $version {
            use super::*;
            use $($path)::+::{AsyncClient, Event, Incoming};

            type QoS = $qos;

            struct Client {
                inner: AsyncClient,
                present: bool,
                messages: Receiver<Message>,
                granted: Receiver<()>,
                acked: Receiver<()>,
                events: AbortHandle,
            }

            impl Client {
                async fn connect(weft: &Weft, connect: Connect) -> Self {
                    #[allow(clippy::redundant_closure_call, reason = "a part of the macro")]
                    let options = $options(weft, &connect);
                    let (inner, mut events) = AsyncClient::new(options, 10);
                    let (into_messages, messages) = channel(100);
                    let (into_granted, granted) = channel(10);
                    let (into_acked, acked) = channel(10);
                    let (into_present, mut present) = channel(1);
                    let task = tokio::spawn(async move {
                        // An error is the end: a reconnect is not part of the conversation.
                        while let Ok(event) = events.poll().await {
                            match event {
                                Event::Incoming(Incoming::ConnAck(answer)) => {
                                    into_present.send(answer.session_present).await.unwrap();
                                }
                                Event::Incoming(Incoming::SubAck(_)) => into_granted.send(()).await.unwrap(),
                                Event::Incoming(Incoming::PubAck(_) | Incoming::PubComp(_)) => {
                                    into_acked.send(()).await.unwrap();
                                }
                                Event::Incoming(Incoming::Publish(publish)) => {
                                    let message = Message {
                                        topic: $topic(&publish.topic),
                                        payload: publish.payload.to_vec(),
                                        qos: publish.qos as u8,
                                        retained: publish.retain,
                                    };
                                    into_messages.send(message).await.unwrap();
                                }
                                _ => {}
                            }
                        }
                    });
                    let present = timeout(PATIENCE, present.recv()).await.unwrap().expect("CONNACK");
                    Self { inner, present, messages, granted, acked, events: task.abort_handle() }
                }

                async fn subscribe(&mut self, filter: &str, qos: QoS) {
                    self.inner.subscribe(filter, qos).await.unwrap();
                    timeout(PATIENCE, self.granted.recv()).await.unwrap().expect("SUBACK");
                }

                async fn publish(&mut self, topic: &str, payload: &str, qos: QoS, retain: bool) {
                    self.inner.publish(topic, qos, retain, payload.to_owned()).await.unwrap();
                    if qos != QoS::AtMostOnce {
                        timeout(PATIENCE, self.acked.recv()).await.unwrap().expect("the answer to PUBLISH");
                    }
                }

                async fn expect(&mut self, topic: &str, payload: &str, qos: QoS, retained: bool) {
                    let got = timeout(PATIENCE, self.messages.recv()).await.expect("a message in time");
                    let (topic, payload) = (topic.to_owned(), payload.as_bytes().to_vec());
                    assert_eq!(got, Some(Message { topic, payload, qos: qos as u8, retained }));
                }

                /// Says goodbye and waits for the end of the connection.
                async fn end(mut self) {
                    self.inner.disconnect().await.unwrap();
                    timeout(PATIENCE, async { while self.messages.recv().await.is_some() {} }).await.unwrap();
                }
            }

            impl Drop for Client {
                fn drop(&mut self) {
                    self.events.abort();
                }
            }

            #[tokio::test]
            async fn qos() {
                let weft = Weft::start().await;
                let mut client = Client::connect(&weft, Connect { id: "main", ..Connect::default() }).await;
                client.subscribe("qos/+", QoS::ExactlyOnce).await;
                for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
                    client.publish("qos/t", "x", qos, false).await;
                    client.expect("qos/t", "x", qos, false).await;
                }
            }

            #[tokio::test]
            async fn retained_session_and_will() {
                let weft = Weft::start().await;
                let mut main = Client::connect(&weft, Connect { id: "main", ..Connect::default() }).await;

                main.publish("kept", "kept", QoS::AtLeastOnce, true).await;
                let mut late = Client::connect(&weft, Connect { id: "late", ..Connect::default() }).await;
                late.subscribe("kept", QoS::AtLeastOnce).await;
                late.expect("kept", "kept", QoS::AtLeastOnce, true).await;
                late.end().await;

                let session = || Connect { id: "session", persist: true, will: None };
                let mut first = Client::connect(&weft, session()).await;
                assert!(!first.present);
                first.subscribe("later/#", QoS::ExactlyOnce).await;
                first.end().await;
                main.publish("later/1", "one", QoS::AtLeastOnce, false).await;
                main.publish("later/2", "two", QoS::ExactlyOnce, false).await;
                let mut second = Client::connect(&weft, session()).await;
                assert!(second.present);
                second.expect("later/1", "one", QoS::AtLeastOnce, false).await;
                second.expect("later/2", "two", QoS::ExactlyOnce, false).await;
                second.end().await;

                main.subscribe("will", QoS::AtLeastOnce).await;
                let dying = Connect { id: "dying", persist: false, will: Some("will") };
                let _dying = Client::connect(&weft, dying).await;
                let _heir = Client::connect(&weft, Connect { id: "dying", ..Connect::default() }).await;
                main.expect("will", "gone", QoS::AtLeastOnce, false).await;
            }
        }
    };
}

conversation!(v4, rumqttc, rumqttc::QoS, options_4, String::clone);
conversation!(v5, rumqttc::v5, rumqttc::v5::mqttbytes::QoS, options_5, text);

fn text(topic: &bytes::Bytes) -> String {
    String::from_utf8(topic.to_vec()).unwrap()
}

fn options_4(weft: &Weft, connect: &Connect) -> rumqttc::MqttOptions {
    let mut options = rumqttc::MqttOptions::new(connect.id, weft.mqtt.ip().to_string(), weft.mqtt.port());
    options.set_clean_session(!connect.persist);
    if let Some(topic) = connect.will {
        options.set_last_will(rumqttc::LastWill::new(topic, "gone", rumqttc::QoS::AtLeastOnce, false));
    }
    options
}

fn options_5(weft: &Weft, connect: &Connect) -> rumqttc::v5::MqttOptions {
    use rumqttc::v5::mqttbytes::{QoS, v5::LastWill};
    let mut options = rumqttc::v5::MqttOptions::new(connect.id, weft.mqtt.ip().to_string(), weft.mqtt.port());
    options.set_clean_start(!connect.persist);
    options.set_session_expiry_interval(connect.persist.then_some(60));
    if let Some(topic) = connect.will {
        options.set_last_will(LastWill::new(topic, "gone", QoS::AtLeastOnce, false, None));
    }
    options
}

/// User property, content type, response topic, correlation data and subscription identifier.
#[tokio::test]
async fn v5_properties() {
    use rumqttc::v5::mqttbytes::QoS;
    use rumqttc::v5::mqttbytes::v5::{PublishProperties, SubscribeProperties};
    use rumqttc::v5::{AsyncClient, Event, Incoming};
    let weft = Weft::start().await;
    let connect = Connect { id: "main", ..Connect::default() };
    let (client, mut events) = AsyncClient::new(options_5(&weft, &connect), 10);
    let identifier = SubscribeProperties { id: Some(7), user_properties: Vec::new() };
    client.subscribe_with_properties("with", QoS::AtLeastOnce, identifier).await.unwrap();
    let sent = PublishProperties {
        user_properties: vec![("colour".into(), "green".into())],
        content_type: Some("text/plain".into()),
        response_topic: Some("answer".into()),
        correlation_data: Some("c1".into()),
        ..PublishProperties::default()
    };
    client.publish_with_properties("with", QoS::AtLeastOnce, false, "x", sent.clone()).await.unwrap();
    let search = async {
        loop {
            if let Event::Incoming(Incoming::Publish(publish)) = events.poll().await.unwrap() {
                return publish.properties;
            }
        }
    };
    let got = timeout(PATIENCE, search).await.expect("the message comes").expect("properties");
    assert_eq!(got, PublishProperties { subscription_identifiers: vec![7], ..sent });
}
