//! Requests that publish: one event, a batch, a request that waits for its reply, and the reply.

use std::sync::Arc;

use bytes::Bytes;
use event::hub::{Outcome, Publish};
use event::{Guarantee, Principal, Reject, trace};
use eventmesh::{Arrival, Payload, Responder, Unanswered, address_reply};
use http::HeaderMap;
use tokio::time::sleep;

use super::{Asked, CLIENT, Site, now_ms};
use crate::binding::{self, BATCH_CONTENT};
use crate::error::{Answer, Code};
use crate::request::{self, Caller, Fields, text};

impl Site {
    /// 104. Answers when the event is kept. Cancel-safe: what was handed over stays so.
    pub(super) async fn publish(
        &self,
        asked: &Asked,
        caller: &Caller,
        fields: &Fields,
    ) -> Result<Answer, Answer> {
        let payload = self.payload(asked, caller, fields, "content")?;
        self.keep_one(asked, caller, payload, Code::TooLarge).await
    }

    /// 107. Answers when the message is kept, though EventMesh does so before. Cancel-safe: what was handed over stays so.
    pub(super) async fn publish_one_of_batch(
        &self,
        asked: &Asked,
        caller: &Caller,
        fields: &Fields,
    ) -> Result<Answer, Answer> {
        let payload = self.payload(asked, caller, fields, BATCH_CONTENT)?;
        self.keep_one(asked, caller, payload, Code::TooLarge).await
    }

    /// 102. Answers when all is kept; nothing is published if one message is wrong. Cancel-safe: what was handed over stays so.
    pub(super) async fn batch(
        &self,
        asked: &Asked,
        caller: &Caller,
        fields: &Fields,
    ) -> Result<Answer, Answer> {
        let group = fields.get("producerGroup").map_or_else(|| fields.need("producergroup"), Ok)?;
        let most = usize::try_from(self.parts.options.batch_events_max).unwrap_or(usize::MAX);
        let items = request::batch(fields, most)?;
        let publisher: Arc<str> = Arc::from(group);
        let mut stamps = self.parts.hub.stamps();
        let mut publishes = Vec::with_capacity(items.len());
        for (at, item) in items.into_iter().enumerate() {
            let of = |answer: Answer| Answer { text: format!("message {at}: {}", answer.text), ..answer };
            let arrival = Arrival { publisher: &publisher, stamp: stamps.take(), now_ms: now_ms() };
            let payload = binding::publish_item(caller, group, item, arrival).map_err(of)?;
            self.check_size(&payload, Code::TooLarge).map_err(of)?;
            publishes.push(one(traced(payload, &asked.head.headers)));
        }
        let who = self.admit_publisher(asked, caller, publishes.len()).await?;
        let outcome = self.keep(&who, publishes).await.map_err(|reject| Answer::of(&reject, Code::Batch))?;
        partly(outcome)
    }

    /// 101. Answers with the reply. Cancel-safe: the request may be answered, and nobody hears it.
    pub(super) async fn ask(
        &self,
        asked: &Asked,
        caller: &Caller,
        fields: &Fields,
    ) -> Result<Answer, Answer> {
        let mut payload = self.payload(asked, caller, fields, "content")?;
        self.check_size(&payload, Code::Body)?;
        let ttl = fields
            .get("ttl")
            .map(str::to_owned)
            .or_else(|| payload.property("ttl").map(|ttl| ttl.into_owned()));
        let ttl = self.parts.common.request_ttl(ttl.as_deref());
        let ttl = ttl.ok_or_else(|| Answer::new(Code::Body, "ttl is no number of milliseconds"))?;
        let who = self.admit_publisher(asked, caller, 1).await?;
        let call = self.parts.requester.call(ttl).map_err(|reject| Answer::of(&reject, Code::Ask))?;
        call.address(payload.parts_mut(), now_ms());
        let topic = payload.topic().to_string();
        let outcome = self.keep(&who, vec![one(traced(payload, &asked.head.headers))]).await;
        outcome.and_then(Outcome::whole).map_err(|reject| Answer::of(&reject, Code::Ask))?;
        let reply = call.await.map_err(|unanswered| {
            let code = match unanswered {
                Unanswered::Late(_) => Code::Unanswered,
                Unanswered::Stopping => Code::Stopping,
            };
            Answer::new(code, unanswered.to_string())
        })?;
        Ok(Answer::outcome(binding::answer(&topic, &reply)))
    }

    /// 301. Cancel-safe: what was handed over stays so.
    pub(super) async fn reply(
        &self,
        asked: &Asked,
        caller: &Caller,
        fields: &Fields,
    ) -> Result<Answer, Answer> {
        let publisher = publisher(fields.get("producergroup"));
        let mut payload = binding::reply(caller, fields, self.arrival(&publisher))?;
        self.check_size(&payload, Code::TooLarge)?;
        let who = self.admit_publisher(asked, caller, 1).await?;
        let responder = address_reply(payload.parts_mut());
        let responder = responder.map_err(|error| Answer::new(Code::Reply, error.to_string()))?;
        let replier = match responder {
            Responder::Weft => self.parts.requester.replier(),
            Responder::Client => &who,
        };
        let outcome = self.keep(replier, vec![one(payload)]).await;
        outcome.and_then(Outcome::whole).map_err(|reject| Answer::of(&reject, Code::Reply))?;
        Ok(Answer::new(Code::Success, ""))
    }

    /// `/eventmesh/publish/TOPIC`. Cancel-safe: what was handed over stays so.
    pub(super) async fn publish_by_path(
        &self,
        asked: &Asked,
        caller: &Caller,
        topic: Option<String>,
    ) -> Result<Answer, Answer> {
        let fields = Fields::of(&asked.head.headers, &asked.body)?;
        let topic = match &topic {
            Some(topic) => topic,
            None => fields.need("topic")?,
        };
        // JSON goes on as it came.
        let data = match request::is_form(&asked.head.headers) {
            true => fields.to_json().into(),
            false => asked.body.clone(),
        };
        self.publish_data(asked, caller, topic, data).await
    }

    /// `/eventmesh/bridge/publish`: EventMesh takes such events from another one. Cancel-safe: what was handed over stays so.
    pub(super) async fn publish_content(&self, asked: &Asked, caller: &Caller) -> Result<Answer, Answer> {
        let fields = Fields::of(&asked.head.headers, &asked.body)?;
        let (topic, content) = (fields.need("topic")?, fields.need("content")?);
        // Data in JSON, whether it came as text or as a member of the object.
        let data = match serde_json::from_str::<&serde_json::value::RawValue>(content) {
            Ok(_) => content.to_owned(),
            Err(_) => serde_json::Value::from(content).to_string(),
        };
        self.publish_data(asked, caller, topic, data.into()).await
    }

    async fn publish_data(
        &self,
        asked: &Asked,
        caller: &Caller,
        topic: &str,
        data: Bytes,
    ) -> Result<Answer, Answer> {
        let headers = &asked.head.headers;
        let publisher = publisher(text(headers, "producergroup"));
        let payload = binding::publish_by_path(headers, caller, topic, data, self.arrival(&publisher))?;
        self.keep_one(asked, caller, payload, Code::TooLarge).await
    }

    fn payload(
        &self,
        asked: &Asked,
        caller: &Caller,
        fields: &Fields,
        content: &'static str,
    ) -> Result<Payload, Answer> {
        let publisher = publisher(fields.get("producergroup"));
        binding::publish(&asked.head.headers, caller, fields, content, self.arrival(&publisher))
    }

    fn arrival<'a>(&self, publisher: &'a Arc<str>) -> Arrival<'a> {
        Arrival { publisher, stamp: self.parts.hub.stamps().take(), now_ms: now_ms() }
    }

    /// `otherwise`: the code for an event that is too large.
    fn check_size(&self, payload: &Payload, otherwise: Code) -> Result<(), Answer> {
        let most = self.parts.common.max_event_chars;
        match (self.parts.common.takes(payload.data()), otherwise) {
            (true, _) => Ok(()),
            (false, Code::TooLarge) => Err(Answer::new(Code::TooLarge, most.to_string())),
            (false, code) => Err(Answer::new(code, format!("event size exceeds the limit: {most}"))),
        }
    }

    async fn keep_one(
        &self,
        asked: &Asked,
        caller: &Caller,
        payload: Payload,
        too_large: Code,
    ) -> Result<Answer, Answer> {
        self.check_size(&payload, too_large)?;
        let who = self.admit_publisher(asked, caller, 1).await?;
        let publish = one(traced(payload, &asked.head.headers));
        let sent =
            format!("SendResult{{messageId='{}', topic='{}'}}", publish.event.id(), publish.event.topic());
        let outcome = self.keep(&who, vec![publish]).await;
        outcome.and_then(Outcome::whole).map_err(|reject| Answer::of(&reject, Code::Send))?;
        Ok(Answer::new(Code::Success, sent))
    }

    /// Hands `batch` to the core and waits until it is kept.
    async fn keep(&self, who: &Principal, batch: Vec<Publish>) -> Result<Outcome, Reject> {
        metrics::counter!("weft_eventmesh_http_events_received_total").increment(batch.len() as u64);
        self.parts.hub.publish(who, batch).outcome_before(sleep(self.patience())).await
    }
}

fn publisher(group: Option<&str>) -> Arc<str> {
    Arc::from(group.unwrap_or(CLIENT))
}

/// The trace that the request belongs to (W3C Trace Context) is that of the event if it has none of its own.
fn traced(mut payload: Payload, headers: &HeaderMap) -> Payload {
    trace::adopt(payload.parts_mut(), text(headers, trace::TRACEPARENT), text(headers, trace::TRACESTATE));
    payload
}

fn one(payload: Payload) -> Publish {
    let event = payload.into_event();
    Publish { event, guarantee: Guarantee::AtLeastOnce, retain: false, id: None }
}

/// `Ok` if everything is kept; else which messages are not, and why the first is not.
fn partly(outcome: Outcome) -> Result<Answer, Answer> {
    let list = match outcome {
        Outcome::Kept => return Ok(Answer::new(Code::Success, "")),
        Outcome::Refused(reject) => return Err(Answer::of(&reject, Code::Batch)),
        Outcome::Partly(list) => list,
    };
    let Some((_, first)) = list.first() else { return Ok(Answer::new(Code::Success, "")) };
    let places: Vec<String> = list.iter().take(PLACES).map(|(at, _)| at.to_string()).collect();
    let more = if list.len() > PLACES { " and more" } else { "" };
    let answer = Answer::of(first, Code::Batch);
    let text = format!("{}; not kept: messages {}{more}; the others are", answer.text, places.join(", "));
    Err(Answer { text, ..answer })
}

/// How many places of a batch an answer names.
const PLACES: usize = 20;
