//! Which path is which call (gRPC over HTTP/2, "Path"), and the services that are not EventMesh's: health and reflection.

use std::convert::Infallible;
use std::time::Duration;

use event::hub::Delivery;
use futures_util::stream::{Stream, unfold};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Request, Response, StatusCode};
use prost::Message;
use tokio::time::timeout;
use tonic::body::Body;
use tonic::server::Grpc;
use tonic::{Code as GrpcCode, Status, Streaming};
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};
use tonic_prost::ProstCodec;
use tonic_reflection::server::Builder;
use tower::util::BoxCloneSyncService;
use tower::{ServiceExt as _, service_fn};

use crate::driver::body::{Held, RequestBody};
use crate::driver::consume::{self, Dialect, Reader};
use crate::driver::{Site, now_ms, publish};
use crate::error::{Answer, Code};
use crate::proto::{CloudEvent, CloudEventBatch};
use crate::{binding, simple};

type Other = BoxCloneSyncService<Request<RequestBody>, Response<Body>, Infallible>;

/// The services that every gRPC server has, by the start of their paths.
pub(super) struct Extra(Vec<(&'static str, Other)>);

impl Extra {
    pub(super) async fn new() -> Self {
        let health = HealthReporter::new();
        for service in SERVICES {
            health.set_service_status(service, ServingStatus::Serving).await;
        }
        let health = HealthServer::new(HealthService::from_health_reporter(health));
        let mut all = vec![("/grpc.health.v1.Health/", Other::new(health))];
        let known = || {
            Builder::configure()
                .register_encoded_file_descriptor_set(DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        // They fail on broken descriptors only, and a test asks for ours.
        if let (Ok(v1), Ok(v1alpha)) = (known().build_v1(), known().build_v1alpha()) {
            all.push(("/grpc.reflection.v1.ServerReflection/", Other::new(v1)));
            all.push(("/grpc.reflection.v1alpha.ServerReflection/", Other::new(v1alpha)));
        }
        Self(all)
    }
}

/// Our services, for who asks after their health.
const SERVICES: [&str; 6] = [
    "org.apache.eventmesh.cloudevents.v1.PublisherService",
    "org.apache.eventmesh.cloudevents.v1.ConsumerService",
    "org.apache.eventmesh.cloudevents.v1.HeartbeatService",
    "eventmesh.common.protocol.grpc.PublisherService",
    "eventmesh.common.protocol.grpc.ConsumerService",
    "eventmesh.common.protocol.grpc.HeartbeatService",
];

/// What `proto/*.proto` say, as a `google.protobuf.FileDescriptorSet`. A test makes it.
const DESCRIPTORS: &[u8] = include_bytes!("../../proto/descriptors.bin");

/// Answers the call that `request` is, on stream `id`. Not cancel-safe: a stream of events ends.
pub(super) async fn answer(
    site: &Site,
    id: u32,
    held: Held,
    request: Request<RequestBody>,
) -> Response<Body> {
    let is_grpc = request
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    if !is_grpc {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return response;
    }
    let path = request.uri().path().to_owned();
    let (service, method) = path.trim_start_matches('/').split_once('/').unwrap_or_default();
    let call = Call { site: site.clone(), held };
    match service {
        "org.apache.eventmesh.cloudevents.v1.PublisherService"
        | "org.apache.eventmesh.cloudevents.v1.ConsumerService"
        | "org.apache.eventmesh.cloudevents.v1.HeartbeatService" => {
            let is_of = |name: &str| service.ends_with(name);
            match method {
                "publish" if is_of("PublisherService") => call.unary(request, Call::publish).await,
                "requestReply" if is_of("PublisherService") => call.unary(request, Call::request).await,
                "publishOneWay" if is_of("PublisherService") => {
                    call.unary(request, Call::publish_one_way).await
                }
                "batchPublish" if is_of("PublisherService") => call.unary(request, Call::batch).await,
                "batchPublishOneWay" if is_of("PublisherService") => {
                    call.unary(request, Call::batch_one_way).await
                }
                "subscribe" if is_of("ConsumerService") => call.unary(request, Call::subscribe).await,
                "unsubscribe" if is_of("ConsumerService") => call.unary(request, Call::unsubscribe).await,
                "subscribeStream" if is_of("ConsumerService") => call.stream::<Events>(id, request).await,
                "heartbeat" if is_of("HeartbeatService") => call.unary(request, Call::heartbeat).await,
                _ => unimplemented(&path),
            }
        }
        "eventmesh.common.protocol.grpc.PublisherService" => match method {
            "publish" => call.unary(request, Call::simple_publish).await,
            "requestReply" => call.unary(request, Call::simple_request).await,
            "batchPublish" => call.unary(request, Call::simple_batch).await,
            _ => unimplemented(&path),
        },
        "eventmesh.common.protocol.grpc.ConsumerService" => match method {
            "subscribe" => call.unary(request, Call::simple_subscribe).await,
            "unsubscribe" => call.unary(request, Call::simple_unsubscribe).await,
            "subscribeStream" => call.stream::<Messages>(id, request).await,
            _ => unimplemented(&path),
        },
        "eventmesh.common.protocol.grpc.HeartbeatService" if method == "heartbeat" => {
            call.unary(request, Call::simple_heartbeat).await
        }
        _ => match site.shared.extra.0.iter().find(|(start, _)| path.starts_with(start)) {
            Some((_, other)) => other.clone().oneshot(request).await.unwrap_or_else(|never| match never {}),
            None => unimplemented(&path),
        },
    }
}

fn unimplemented(path: &str) -> Response<Body> {
    Status::unimplemented(format!("there is no {path} here")).into_http()
}

/// One call.
#[derive(Clone)]
struct Call {
    site: Site,
    held: Held,
}

impl Call {
    /// A call of one message that `f` answers.
    async fn unary<M, R, F>(
        self,
        request: Request<RequestBody>,
        f: fn(Self, HeaderMap, M) -> F,
    ) -> Response<Body>
    where
        M: Message + Default + 'static,
        R: Message + Default + 'static,
        F: Future<Output = Result<R, Status>> + Send,
    {
        let mut grpc = Grpc::new(ProstCodec::<R, M>::default())
            .max_decoding_message_size(self.site.shared.options.message_bytes_max.as_usize());
        let patience = self.site.patience();
        let service = service_fn(|request: tonic::Request<M>| {
            let call = self.clone();
            async move {
                let (metadata, _, message) = request.into_parts();
                f(call, metadata.into_headers(), message).await.map(tonic::Response::new)
            }
        });
        arrived(patience, grpc.unary(service, request)).await
    }

    /// A stream of events.
    async fn stream<D: Dialect>(self, id: u32, request: Request<RequestBody>) -> Response<Body> {
        let mut grpc = Grpc::new(ProstCodec::<D::Out, D::In>::default())
            .max_decoding_message_size(self.site.shared.options.message_bytes_max.as_usize());
        let service = service_fn(|request: tonic::Request<Streaming<D::In>>| {
            let (metadata, _, inbound) = request.into_parts();
            let reader =
                Reader::<D>::new(self.site.clone(), id, self.held.clone(), metadata.into_headers(), inbound);
            std::future::ready(Ok::<_, Status>(tonic::Response::new(messages(reader))))
        });
        grpc.streaming(service, request).await
    }

    async fn publish(self, headers: HeaderMap, message: CloudEvent) -> Result<CloudEvent, Status> {
        Ok(self.event(publish::publish(&self.site, &headers, message).await))
    }

    async fn publish_one_way(self, headers: HeaderMap, message: CloudEvent) -> Result<(), Status> {
        one_way(publish::publish(&self.site, &headers, message).await)
    }

    async fn batch(self, headers: HeaderMap, batch: CloudEventBatch) -> Result<CloudEvent, Status> {
        Ok(self.event(publish::batch(&self.site, &headers, batch.events).await))
    }

    async fn batch_one_way(self, headers: HeaderMap, batch: CloudEventBatch) -> Result<(), Status> {
        one_way(publish::batch(&self.site, &headers, batch.events).await)
    }

    async fn request(self, headers: HeaderMap, message: CloudEvent) -> Result<CloudEvent, Status> {
        Ok(publish::request(&self.site, &headers, message).await)
    }

    async fn subscribe(self, headers: HeaderMap, message: CloudEvent) -> Result<CloudEvent, Status> {
        Ok(self.event(consume::subscribe_webhook(&self.site, &headers, &message).await))
    }

    async fn unsubscribe(self, headers: HeaderMap, message: CloudEvent) -> Result<CloudEvent, Status> {
        Ok(self.event(consume::unsubscribe(&self.site, &headers, &message).await))
    }

    async fn heartbeat(self, headers: HeaderMap, message: CloudEvent) -> Result<CloudEvent, Status> {
        Ok(self.event(consume::heartbeat(&self.site, &headers, &message).await))
    }

    async fn simple_publish(
        self,
        headers: HeaderMap,
        message: simple::SimpleMessage,
    ) -> Result<simple::Response, Status> {
        let message = message.into_event(&mut self.site.shared.hub.stamps());
        Ok(self.response(publish::publish(&self.site, &headers, message).await))
    }

    async fn simple_batch(
        self,
        headers: HeaderMap,
        batch: simple::BatchMessage,
    ) -> Result<simple::Response, Status> {
        let messages = batch.into_events(&mut self.site.shared.hub.stamps());
        Ok(self.response(publish::batch(&self.site, &headers, messages).await))
    }

    async fn simple_request(
        self,
        headers: HeaderMap,
        message: simple::SimpleMessage,
    ) -> Result<simple::SimpleMessage, Status> {
        let message = message.into_event(&mut self.site.shared.hub.stamps());
        let reply = publish::request(&self.site, &headers, message).await;
        Ok(simple::SimpleMessage::reply(reply))
    }

    async fn simple_subscribe(
        self,
        headers: HeaderMap,
        wanted: simple::Subscription,
    ) -> Result<simple::Response, Status> {
        let message = wanted.into_event(&mut self.site.shared.hub.stamps());
        Ok(self.response(consume::subscribe_webhook(&self.site, &headers, &message).await))
    }

    async fn simple_unsubscribe(
        self,
        headers: HeaderMap,
        wanted: simple::Subscription,
    ) -> Result<simple::Response, Status> {
        let message = wanted.into_event(&mut self.site.shared.hub.stamps());
        Ok(self.response(consume::unsubscribe(&self.site, &headers, &message).await))
    }

    async fn simple_heartbeat(
        self,
        headers: HeaderMap,
        heartbeat: simple::Heartbeat,
    ) -> Result<simple::Response, Status> {
        Ok(self.response(consume::heartbeat(&self.site, &headers, &heartbeat.into_event()).await))
    }

    fn event(&self, answer: Answer) -> CloudEvent {
        count(&answer);
        answer.event(now_ms())
    }

    fn response(&self, answer: Answer) -> simple::Response {
        simple::Response::of(&self.event(answer))
    }
}

/// The answer of `call`, whose request has to arrive in time.
async fn arrived(patience: Duration, call: impl Future<Output = Response<Body>>) -> Response<Body> {
    // A request waits for its reply as long as it says; what is kept, and what arrives, is limited on its own.
    match timeout(patience + REQUEST_MAX, call).await {
        Ok(response) => response,
        Err(_) => Status::deadline_exceeded("the call took too long").into_http(),
    }
}

/// The longest `eventmesh.request_ttl_max_ms`.
const REQUEST_MAX: Duration = Duration::from_secs(3600);

/// What is said where nothing can be said but that all is well: an error is a gRPC status.
fn one_way(answer: Answer) -> Result<(), Status> {
    count(&answer);
    let code = match answer.code {
        Code::Success => return Ok(()),
        Code::Header | Code::Body | Code::Send | Code::Reply => GrpcCode::InvalidArgument,
        Code::Acl => GrpcCode::PermissionDenied,
        Code::Overload | Code::Rate => GrpcCode::ResourceExhausted,
        Code::Stopping | Code::Batch => GrpcCode::Unavailable,
        Code::Runtime | Code::Subscribe | Code::Unsubscribe | Code::RequestReply | Code::Resubscribe => {
            GrpcCode::Internal
        }
    };
    Err(Status::new(code, answer.message()))
}

fn count(answer: &Answer) {
    metrics::counter!("weft_grpc_calls_total", "statuscode" => answer.code.label()).increment(1);
}

fn messages<D: Dialect>(reader: Reader<D>) -> impl Stream<Item = Result<D::Out, Status>> + Send {
    unfold(Some(reader), |reader| async move {
        let mut reader = reader?;
        let next = reader.next().await?;
        // A status is the last word.
        let more = next.is_ok().then_some(reader);
        Some((next, more))
    })
}

/// What a stream of the newer services speaks.
struct Events;

impl Dialect for Events {
    type In = CloudEvent;
    type Out = CloudEvent;

    fn read(_site: &Site, message: CloudEvent) -> CloudEvent {
        message
    }

    fn event(delivery: &Delivery) -> CloudEvent {
        binding::encode(&delivery.event)
    }

    fn answer(marked: CloudEvent) -> CloudEvent {
        marked
    }
}

/// What a stream of the older services speaks.
struct Messages;

impl Dialect for Messages {
    type In = simple::Subscription;
    type Out = simple::SimpleMessage;

    fn read(site: &Site, message: simple::Subscription) -> CloudEvent {
        message.into_event(&mut site.shared.hub.stamps())
    }

    fn event(delivery: &Delivery) -> simple::SimpleMessage {
        simple::SimpleMessage::of(&delivery.event)
    }

    fn answer(marked: CloudEvent) -> simple::SimpleMessage {
        simple::SimpleMessage::answer(&marked)
    }
}
