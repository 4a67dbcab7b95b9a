//! What no single setting shows: settings that do not go together.

use access::Anonymous;
use embedded::OpenError;
use event::ByteLimit;
use rocketmq::OptionsError;
use routing::{EMBEDDED, RouteFilter, RouteMistake, RouteOptions};
use transport::{ClientCertificates, ProxyProtocol, TlsOptions};

use crate::listeners::{BUILT_IN, EVENTMESH};
use crate::load::Written;
use crate::place::{Key, Mistake, Step};
use crate::{Carrier, Config, ListenerTable, Protocol};

/// Checks `config` across its tables.
pub(crate) fn across(config: &Config, written: &Written) -> Result<(), Mistake> {
    ranges(config, written)?;
    log_level(config, written)?;
    access(config, written)?;
    listeners(config, written)?;
    store(config, written)?;
    clusters(config, written)?;
    bridges(config, written)?;
    hooks(config, written)?;
    tenants(config, written)?;
    quotas(config, written)?;
    routes(config, written)
}

/// Ranges that no type holds: the key, the least and the most.
#[rustfmt::skip]
const RANGES: &[(&str, u64, u64)] = &[
    ("core.queue_events", 1, u64::MAX),
    ("core.queue_bytes", 1, u64::MAX),
    ("core.sessions", 1, u64::MAX),
    ("core.live_wait_ms", 0, 1000),
    ("core.unique_events", 1, u64::MAX),
    ("core.redelivery.limit", 0, 1000),
    ("core.redelivery.delay_ms", 0, 600_000),
    ("core.breaker.failures", 1, 1000),
    ("core.breaker.pause_ms", 100, 600_000),
    ("mqtt.max_packet_bytes", ByteLimit::kib(1).0, ByteLimit::mib(256).0),
    ("mqtt.open_bytes", ByteLimit::kib(64).0, u64::MAX),
    ("mqtt.output_bytes", ByteLimit::kib(4).0, u64::MAX),
    ("mqtt.connect_timeout_ms", 100, u64::MAX),
    ("mqtt.write_timeout_ms", 1000, u64::MAX),
    ("http.body_bytes_max", ByteLimit::kib(1).0, u64::MAX),
    ("eventmesh.max_event_chars", 1, 16_777_216),
    ("eventmesh.requests_max", 1, 1_000_000),
    ("eventmesh.request_ttl_ms", 1, 3_600_000),
    ("eventmesh.request_ttl_max_ms", 1, 3_600_000),
    ("eventmesh_tcp.max_frame_bytes", ByteLimit::kib(1).0, ByteLimit::mib(256).0),
    ("eventmesh_tcp.open_bytes", ByteLimit::kib(64).0, u64::MAX),
    ("eventmesh_tcp.output_bytes", ByteLimit::kib(4).0, u64::MAX),
    ("eventmesh_tcp.delivery_bytes", ByteLimit::kib(1).0, u64::MAX),
    ("eventmesh_tcp.ack_timeout_ms", 1000, u64::MAX),
    ("eventmesh_tcp.hello_timeout_ms", 100, u64::MAX),
    ("eventmesh_tcp.session_expiry_ms", 1000, u64::MAX),
    ("eventmesh_tcp.write_timeout_ms", 1000, u64::MAX),
    ("websocket.message_bytes_max", ByteLimit::kib(1).0, u64::MAX),
    ("eventmesh_http.body_bytes_max", ByteLimit::kib(1).0, ByteLimit::mib(256).0),
    ("eventmesh_http.bodies_bytes_max", ByteLimit::kib(64).0, u64::MAX),
    ("eventmesh_http.batch_events_max", 1, 100_000),
    ("eventmesh_http.publish_timeout_s", 1, 3600),
    ("grpc.message_bytes_max", ByteLimit::kib(1).0, ByteLimit::mib(256).0),
    ("grpc.messages_bytes_max", ByteLimit::kib(64).0, u64::MAX),
    ("webhook.in_flight", 1, 1000),
    ("webhook.retries", 0, 100),
    ("webhook.retry_ms", 1, 3_600_000),
    ("webhook.timeout_ms", 1, 3_600_000),
    ("webhook.webhooks_max", 1, 1_000_000),
    ("webhook.topics_max", 1, 100_000),
    ("webhook.silence_s", 1, 86_400),
    ("grpc.calls_max", 1, 10_000),
    ("grpc.batch_events_max", 1, 65_535),
    ("grpc.subscriptions_max", 1, 100_000),
    ("grpc.window", 1, 65_534),
    ("grpc.call_timeout_s", 1, 3600),
    ("grpc.ping_s", 1, 3600),
];

fn ranges(config: &Config, written: &Written) -> Result<(), Mistake> {
    for &(name, least, most) in RANGES {
        let key = Key::dotted(name);
        let Some(value) = number(config, &key) else { continue };
        if !(least..=most).contains(&value) {
            let what = match most {
                u64::MAX => format!("at least {least} is needed"),
                _ => format!("out of range {least}..={most}"),
            };
            return Err(written.mistake(&key, what, ""));
        }
    }
    for (client, weight) in &config.core.shared.weights {
        if !(1..=100).contains(weight) {
            let key = Key::dotted("core.shared.weights").name(client);
            return Err(written.mistake(
                &key,
                "out of range 1..=100".to_owned(),
                "1 is the share of one without a weight",
            ));
        }
    }
    config.core.redelivery.check().map_err(|(key, reason)| {
        written.mistake(
            &Key::dotted("core.redelivery").name(key),
            reason,
            "such as \"$dead\", or \"\" for none",
        )
    })?;
    config.eventmesh.check().map_err(|key| {
        let hint = "1 to 128 letters, digits and signs of ASCII, without spaces";
        written.mistake(&Key::dotted("eventmesh").name(key), "no header can have this", hint)
    })?;
    config.webhook.check().map_err(|what| {
        written.mistake(&Key::dotted("webhook.dead_letters"), what, "such as \"$dead\", or \"\" for none")
    })?;
    let (http, eventmesh) = (&config.http.options, &config.eventmesh_http);
    for (table, one, all) in [
        ("http", http.body_bytes_max, http.bodies_bytes_max),
        ("eventmesh_http", eventmesh.body_bytes_max, eventmesh.bodies_bytes_max),
    ] {
        if all < one {
            let what = format!("less than {table}.body_bytes_max, {one}");
            let key = Key::dotted(&format!("{table}.bodies_bytes_max"));
            return Err(written.mistake(&key, what, "one body has to fit"));
        }
    }
    Ok(())
}

/// The number, or the size, at `key`.
fn number(config: &Config, key: &Key) -> Option<u64> {
    let all = toml::Value::try_from(config).ok()?;
    let found = key.0.iter().try_fold(&all, |value, step| match step {
        Step::Name(name) => value.get(name),
        Step::Index(at) => value.get(at),
    });
    match found? {
        toml::Value::Integer(number) => u64::try_from(*number).ok(),
        toml::Value::String(size) => size.parse::<ByteLimit>().ok().map(|size| size.0),
        toml::Value::Float(_)
        | toml::Value::Boolean(_)
        | toml::Value::Datetime(_)
        | toml::Value::Array(_)
        | toml::Value::Table(_) => None,
    }
}

/// `level`, or `target=level`, between commas.
fn log_level(config: &Config, written: &Written) -> Result<(), Mistake> {
    for part in config.log.level.split(',') {
        let level = part.rsplit('=').next().unwrap_or(part).trim();
        if !["off", "error", "warn", "info", "debug", "trace"].contains(&level) {
            let what = format!("{level:?} is no level");
            let hint = "levels are error, warn, info, debug and trace; such as \"info,mqtt=debug\"";
            return Err(written.mistake(&Key::dotted("log.level"), what, hint));
        }
    }
    Ok(())
}

fn access(config: &Config, written: &Written) -> Result<(), Mistake> {
    if config.allow_anonymous && config.access.anonymous == Anonymous::Never {
        let hint = "take one of the two away";
        return Err(written.mistake(
            &Key::dotted("access.anonymous"),
            "allow_anonymous says that everybody may connect",
            hint,
        ));
    }
    Ok(())
}

fn listeners(config: &Config, written: &Written) -> Result<(), Mistake> {
    let access = config.access();
    let asks = access.has_proofs() || access.anonymous == Anonymous::Always;
    let mut taken: Vec<(Key, ListenerTable)> = Vec::new();
    let mut names: Vec<&str> = Vec::new();
    for (name, table) in config.listeners() {
        let own = Key::dotted("listener").name(name);
        let is_first = !names.contains(&name);
        let is_built_in = BUILT_IN.contains(&name) && is_first;
        let is_eventmesh = config.eventmesh.standard_ports && is_first && is_of_eventmesh(name);
        let key = if is_built_in { Key::dotted(name) } else { own };
        if !is_built_in && !is_eventmesh {
            listener_name(&key, name, written)?;
        }
        names.push(name);
        entry(&key, &table, written)?;
        let listen = match is_eventmesh {
            true => Key::dotted("eventmesh.standard_ports"),
            false => key.name("listen"),
        };
        if !table.listen.0.ip().is_loopback() && !asks {
            return Err(written.mistake(
                &listen,
                "other machines can reach this address, and nothing says who may connect",
                "give users passwords (access.password_file, `weft passwd FILE USER`), listen on 127.0.0.1, or say that \
                 everybody may connect: allow_anonymous = true, or --allow-anonymous",
            ));
        }
        if let Some((other, _)) = taken.iter().find(|(_, other)| same_place(other, &table)) {
            let what = format!("{other} is the same address");
            return Err(written.mistake(&listen, what, "give each listener a port of its own"));
        }
        taken.push((listen, table));
    }
    Ok(())
}

fn is_of_eventmesh(name: &str) -> bool {
    EVENTMESH.iter().any(|(own, ..)| *own == name)
}

/// What stands in front of a listener.
fn entry(key: &Key, table: &ListenerTable, written: &Written) -> Result<(), Mistake> {
    if table.proxy_protocol == ProxyProtocol::Required && table.trusted_proxies.is_empty() {
        let hint = "name the proxies: trusted_proxies = [\"10.0.0.5\"]";
        return Err(written.mistake(&key.name("proxy_protocol"), "no proxy is trusted", hint));
    }
    let tls = || {
        let checked = table.tls.check();
        checked.map_err(|(name, what, hint)| written.mistake(&key.name("tls").name(name), what, hint))
    };
    let unused = |name: &str, carrier: &str| {
        let what = format!("the table {name} says nothing to {carrier:?}");
        let hint = format!("write carrier = \"{name}\", or take the table {name} away");
        Err(written.mistake(&key.name("carrier"), what, hint))
    };
    let has_quic = table.quic != quic::Options::default();
    match table.carrier {
        Carrier::Tcp if table.tls != TlsOptions::default() => unused("tls", "tcp"),
        Carrier::Tcp if has_quic => unused("quic", "tcp"),
        Carrier::Tcp => Ok(()),
        Carrier::Tls if has_quic => unused("quic", "tls"),
        Carrier::Tls => tls(),
        Carrier::Quic => {
            tls()?;
            of_quic(key, table, written)
        }
    }
}

/// What QUIC does not go together with.
fn of_quic(key: &Key, table: &ListenerTable, written: &Written) -> Result<(), Mistake> {
    if table.protocol != Protocol::Mqtt {
        let hint = "write protocol = \"mqtt\", or carrier = \"tls\"";
        return Err(written.mistake(&key.name("protocol"), "QUIC carries MQTT only", hint));
    }
    if table.proxy_protocol != ProxyProtocol::Off {
        let hint = "take it away; clients' addresses are those of their packets";
        return Err(written.mistake(
            &key.name("proxy_protocol"),
            "no proxy passes QUIC on with a header",
            hint,
        ));
    }
    if table.quic.early_data && table.tls.client_certificates != ClientCertificates::Off {
        let hint = "what is sent early comes before the proof: take one of the two away";
        let early = key.name("quic").name("early_data");
        return Err(written.mistake(&early, "clients have to show certificates", hint));
    }
    let checked = table.quic.check();
    checked.map_err(|(name, what)| written.mistake(&key.name("quic").name(name), what, ""))
}

/// Names are labels of metrics and parts of health, and have to be told apart from the two that are always there.
fn listener_name(key: &Key, name: &str, written: &Written) -> Result<(), Mistake> {
    if BUILT_IN.contains(&name) {
        let hint = format!("give it another name, or set {name}.listen");
        return Err(written.mistake(key, "a listener that is always there has this name", hint));
    }
    if is_of_eventmesh(name) {
        let what = "a listener of eventmesh.standard_ports has this name";
        return Err(written.mistake(key, what, "give it another name"));
    }
    plain_name(key, name, written)
}

/// Whether logs, metrics and topics can have this name.
fn plain_name(key: &Key, name: &str, written: &Written) -> Result<(), Mistake> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if name.is_empty() || name.len() > 64 || !name.bytes().all(is_plain) {
        let hint = "letters, digits, '-' and '_', at most 64";
        return Err(written.mistake(key, "logs and metrics cannot show this name", hint));
    }
    Ok(())
}

fn store(config: &Config, written: &Written) -> Result<(), Mistake> {
    config.store.check().map_err(|error| {
        let key = Key::dotted("store");
        let key = if let OpenError::Option { key: name, .. } = &error { key.name(name) } else { key };
        written.mistake(&key, error.to_string(), "")
    })
}

fn clusters(config: &Config, written: &Written) -> Result<(), Mistake> {
    for (name, kind, cluster) in config.clusters() {
        let key = Key::dotted(kind.name()).name(name);
        if kind == rocketmq::Kind::Defibus && config.rocketmq.contains_key(name) {
            let hint = "give one of them another name";
            return Err(written.mistake(&key, "a cluster in [rocketmq] has this name", hint));
        }
        if name == EMBEDDED {
            return Err(written.mistake(
                &key,
                "the embedded log has this name",
                "give the cluster another name",
            ));
        }
        cluster.check(kind).map_err(|error| rocketmq_mistake(written, &key, &error))?;
    }
    Ok(())
}

fn bridges(config: &Config, written: &Written) -> Result<(), Mistake> {
    for (name, bridge) in &config.bridges {
        let key = Key::dotted("bridge").name(name);
        let Some((kind, cluster)) = config.cluster(&bridge.cluster) else {
            return Err(unknown_cluster(config, written, &key.name("cluster"), &[]));
        };
        let checked = bridge.check(name, cluster).and_then(|()| bridge.check_kind(kind));
        checked.map_err(|error| rocketmq_mistake(written, &key, &error))?;
    }
    Ok(())
}

fn hooks(config: &Config, written: &Written) -> Result<(), Mistake> {
    for (name, hook) in &config.hooks {
        let key = Key::dotted("hook").name(name);
        plain_name(&key, name, written)?;
        hook.check().map_err(|(name, reason)| written.mistake(&key.name(name), reason, ""))?;
        // Rules of routes know what an expression may say.
        let filter = hook.filter.clone().map(RouteFilter::try_from).transpose();
        let checked = filter.and_then(|filter| {
            let topic = hook.topics.first().cloned();
            let rule = topic.map(|topic| RouteOptions { filter, ..RouteOptions::new(topic) });
            rule.map_or(Ok(()), |rule| rule.check().map_err(|mistake| mistake.reason))
        });
        checked.map_err(|reason| written.mistake(&key.name("filter"), reason, ""))?;
    }
    Ok(())
}

fn rocketmq_mistake(written: &Written, table: &Key, error: &OptionsError) -> Mistake {
    let name = match error {
        OptionsError::NoNameServer | OptionsError::NameServer(_) => "name_servers",
        OptionsError::HalfCredentials => "access_key",
        OptionsError::Idc(_) => "idc",
        OptionsError::Name { key, .. }
        | OptionsError::Plain { key, .. }
        | OptionsError::Range { key, .. } => key,
        OptionsError::Template(_) | OptionsError::TwoRules(_) | OptionsError::Filter(_) => "in",
        OptionsError::Pattern { .. } => "out",
        OptionsError::DeadLetters(_) => "dead_letters",
        OptionsError::NoNode => "broadcast",
        OptionsError::Pop => "pop",
        OptionsError::File(error) => error.key,
        OptionsError::NoRules | OptionsError::Random => return written.mistake(table, error.to_string(), ""),
    };
    let key = name.split('.').fold(table.clone(), |key, part| key.name(part));
    written.mistake(&key, error.to_string(), "")
}

fn tenants(config: &Config, written: &Written) -> Result<(), Mistake> {
    for (name, tenant) in &config.tenants {
        let key = Key::dotted("tenant").name(name);
        if let Err((inner, reason)) = tenant.check() {
            return Err(written.mistake(&key.name(inner), reason, ""));
        }
        for listener in &tenant.listeners {
            known_listener(config, written, &key.clone().name("listeners"), listener)?;
        }
    }
    Ok(())
}

fn quotas(config: &Config, written: &Written) -> Result<(), Mistake> {
    for (name, quota) in &config.quotas {
        let key = Key::dotted("quota").name(name);
        if let Err((inner, reason)) = quota.check() {
            return Err(written.mistake(&key.name(inner), reason, ""));
        }
        if !quota.listener.is_empty() {
            known_listener(config, written, &key.clone().name("listener"), &quota.listener)?;
        }
        if !quota.tenant.is_empty() && !config.tenants.contains_key(&quota.tenant) {
            let known: Vec<&str> = config.tenants.keys().map(String::as_str).collect();
            let hint = format!("known: {}", known.join(", "));
            return Err(written.mistake(&key.name("tenant"), "there is no such tenant", hint));
        }
    }
    Ok(())
}

/// The value of `key` names one.
fn known_listener(config: &Config, written: &Written, key: &Key, listener: &str) -> Result<(), Mistake> {
    let known: Vec<&str> = config.listeners().map(|(name, _)| name).collect();
    if known.contains(&listener) {
        return Ok(());
    }
    let hint = format!("known: {}", known.join(", "));
    Err(written.mistake(key, "there is no such listener", hint))
}

fn routes(config: &Config, written: &Written) -> Result<(), Mistake> {
    for (index, route) in config.routes.iter().enumerate() {
        let key = Key::dotted("route").index(index);
        if route.topic.share().is_some() {
            let hint = "write the filter alone: a route takes every event that it matches";
            return Err(written.mistake(&key.name("topic"), "a route cannot be a shared subscription", hint));
        }
        if let Err(RouteMistake { target, key: (name, inner), reason }) = route.check() {
            let table = target.map_or_else(|| key.clone(), |at| key.name("to").index(at));
            let at = inner.iter().fold(table.name(name), |key, inner| key.name(inner));
            return Err(written.mistake(&at, reason, ""));
        }
        if let Some(listener) = &route.listener {
            known_listener(config, written, &key.clone().name("listener"), listener)?;
        }
        let own = [(key.name("store"), &route.store)];
        let targets = route.to.iter().enumerate();
        let targets =
            targets.filter_map(|(at, to)| Some((key.name("to").index(at).name("store"), to.store.as_ref()?)));
        for (at, store) in own.into_iter().chain(targets) {
            if store != EMBEDDED && config.cluster(store).is_none() {
                return Err(unknown_cluster(config, written, &at, &[EMBEDDED]));
            }
        }
    }
    Ok(())
}

/// `key` names a cluster that is not there.
fn unknown_cluster(config: &Config, written: &Written, key: &Key, others: &[&str]) -> Mistake {
    let clusters = config.clusters().map(|(name, _, _)| name.as_str());
    let known: Vec<&str> = others.iter().copied().chain(clusters).collect();
    let hint = match known.is_empty() {
        true => "describe the cluster in a table [rocketmq.NAME] or [defibus.NAME]".to_owned(),
        false => format!(
            "known: {}; describe a cluster in a table [rocketmq.NAME] or [defibus.NAME]",
            known.join(", ")
        ),
    };
    written.mistake(key, "there is no such store", hint)
}

fn same_place(a: &ListenerTable, b: &ListenerTable) -> bool {
    let is_tcp = |table: &ListenerTable| match table.carrier {
        Carrier::Tcp | Carrier::Tls => true,
        Carrier::Quic => false,
    };
    if is_tcp(a) != is_tcp(b) {
        return false;
    }
    let (a, b) = (a.listen.0, b.listen.0);
    a.port() != 0
        && a.port() == b.port()
        && (a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_range_is_of_a_key() {
        let config = Config::default();
        for (name, least, most) in RANGES {
            let value = number(&config, &Key::dotted(name)).unwrap_or_else(|| panic!("{name}"));
            assert!((least..=most).contains(&&value), "{name}");
        }
    }
}
