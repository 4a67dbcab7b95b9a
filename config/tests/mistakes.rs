//! Each mistake is told with its place, key, value and a way out.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::PathBuf;

use config::{Flag, Sources, load};

/// What `load` says about a file, variables and flags; the folder in front of the file's name is left out.
fn mistake(file: &str, environment: &[(&str, &str)], flags: &[(&'static str, &'static str, &str)]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weft.toml");
    std::fs::write(&path, file).unwrap();
    let error = load(&sources(Some(path), environment, flags)).unwrap_err().to_string();
    error.replace(&format!("{}/", folder.path().display()), "")
}

fn sources(
    file: Option<PathBuf>,
    environment: &[(&str, &str)],
    flags: &[(&'static str, &'static str, &str)],
) -> Sources {
    let environment =
        environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let flags =
        flags.iter().map(|(name, key, value)| Flag { name, key, value: (*value).to_owned() }).collect();
    Sources { file, environment, flags }
}

fn starts(text: &str, start: &str) {
    assert!(text.starts_with(start), "{text}\n should start with\n{start}");
}

#[test]
fn an_unknown_key_names_its_line_and_the_nearest_key() {
    let text = mistake("data = \"x\"\n\n[mqtt]\nlistn = \"127.0.0.1:1\"\n", &[], &[]);
    assert_eq!(text, "weft.toml:4: mqtt.listn: there is no such key; did you mean mqtt.listen?");
    starts(&mistake("[mqt]\n", &[], &[]), "weft.toml:1: mqt: there is no such key; did you mean mqtt?");
    starts(
        &mistake("listen = \"127.0.0.1:1\"\n", &[], &[]),
        "weft.toml:1: listen: there is no such key; did you mean http.listen?",
    );
}

#[test]
fn a_value_of_the_wrong_kind_names_line_key_and_value() {
    let text = mistake("[log]\nlevel = 5\n", &[], &[]);
    starts(&text, "weft.toml:2: log.level = 5: invalid type: integer `5`, expected a string; \"error\"");
    let text = mistake("[log]\nlevel = \"mqtt=loud\"\n", &[], &[]);
    starts(&text, "weft.toml:2: log.level = \"mqtt=loud\": \"loud\" is no level; levels are");
    let text = mistake("[log]\n\nformat = \"xml\"\n", &[], &[]);
    starts(&text, "weft.toml:3: log.format = \"xml\": unknown variant `xml`, expected `text` or `json`; ");
    let text = mistake("[mqtt]\nlisten = \"nowhere\"\n", &[], &[]);
    starts(
        &text,
        "weft.toml:2: mqtt.listen = \"nowhere\": \"nowhere\" is not an IP address and a port, such as",
    );
}

#[test]
fn a_number_out_of_range_names_the_range() {
    starts(
        &mistake("stop_timeout_s = 601\n", &[], &[]),
        "weft.toml:1: stop_timeout_s = 601: out of range 0..=600; How long",
    );
    starts(
        &mistake("stop_timeout_s = -1\n", &[], &[]),
        "weft.toml:1: stop_timeout_s = -1: out of range 0..=600; ",
    );
}

#[test]
fn broken_toml_names_its_line() {
    starts(&mistake("data = \"x\"\n[mqtt\n", &[], &[]), "weft.toml:2: [mqtt: ");
    starts(&mistake("data = \"x\"\ndata = \"y\"\n", &[], &[]), "weft.toml:2: data = \"y\": duplicate key");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = load(&sources(Some(PathBuf::from("/nowhere/weft.toml")), &[], &[])).unwrap_err().to_string();
    starts(&error, "/nowhere/weft.toml: cannot be read: No such file");
}

#[test]
fn a_variable_and_a_flag_are_named() {
    let text = mistake("", &[("WEFT_STOP_TIMEOUT_S", "soon")], &[]);
    starts(&text, "environment variable WEFT_STOP_TIMEOUT_S: stop_timeout_s = soon: invalid type: string");
    let text = mistake("", &[("WEFT_MQTT__LISTN", "x")], &[]);
    assert_eq!(
        text,
        "environment variable WEFT_MQTT__LISTN: mqtt.listn: there is no such key; did you mean mqtt.listen?"
    );
    let text = mistake("", &[("WEFT_DATA", "a")], &[("--mqtt", "mqtt.listen", "1883")]);
    starts(&text, "--mqtt: mqtt.listen = 1883: \"1883\" is not an IP address and a port");
}

#[test]
fn a_listener_for_everybody_has_to_be_wanted() {
    let open = "[http]\n\nlisten = \"0.0.0.0:8080\"\n";
    starts(
        &mistake(open, &[], &[]),
        "weft.toml:3: http.listen = \"0.0.0.0:8080\": other machines can reach this",
    );
    let flags = [("--mqtt", "mqtt.listen", "[::]:1883")];
    starts(&mistake("", &[], &flags), "--mqtt: mqtt.listen = [::]:1883: other machines");
    load(&sources(None, &[("WEFT_ALLOW_ANONYMOUS", "true")], &flags)).unwrap();
}

#[test]
fn two_listeners_need_two_addresses() {
    let text = mistake("mqtt.listen = \"127.0.0.1:7\"\nhttp.listen = \"localhost:7\"\n", &[], &[]);
    starts(&text, "weft.toml:2: http.listen = \"localhost:7\": mqtt.listen is the same address; ");
    load(&sources(
        None,
        &[],
        &[("--mqtt", "mqtt.listen", "127.0.0.1:0"), ("--http", "http.listen", "127.0.0.1:0")],
    ))
    .unwrap();
}

#[test]
fn a_quota_names_a_listener_and_topics_that_are_there() {
    let quota = |line: &str| mistake(&format!("[quota.q]\n{line}\n"), &[], &[]);
    starts(
        &quota("listener = \"plnt\""),
        "weft.toml:2: quota.q.listener = \"plnt\": there is no such listener; known: ",
    );
    starts(&quota("retained_events = 1"), "weft.toml:2: quota.q.retained_events = 1: say of which topics");
    starts(&quota("topic = \"$share/g/a\""), "weft.toml:2: quota.q.topic = ");
    starts(&quota("user = \"*-gauge\""), "weft.toml:2: quota.q.user = \"*-gauge\": `*` stands for any text");
    starts(
        &quota("tenant = \"acme\"\n[tenant.ban]\nusers = [\"b\"]"),
        "weft.toml:2: quota.q.tenant = \"acme\": there is no such tenant; known: ban",
    );
}

#[test]
fn dead_letters_have_a_place() {
    let redelivery = |line: &str| mistake(&format!("[core.redelivery]\n{line}\n"), &[], &[]);
    starts(
        &redelivery("dead_letters = \"a/#\""),
        "weft.toml:2: core.redelivery.dead_letters = \"a/#\": not a topic",
    );
    starts(&redelivery("limit = 1001"), "weft.toml:2: core.redelivery.limit = 1001: out of range");
}

#[test]
fn somebody_can_belong_to_a_tenant() {
    let tenant = |line: &str| mistake(&format!("[tenant.t]\n{line}\n"), &[], &[]);
    starts(&tenant("users = []"), "weft.toml:2: tenant.t.users = []: nobody belongs to it");
    starts(&tenant("clients = [\"\"]"), "weft.toml:2: tenant.t.clients = ");
    starts(
        &tenant("clients = [\"a\", \"b*c\"]"),
        "weft.toml:2: tenant.t.clients = [\"a\", \"b*c\"]: `*` stands",
    );
    starts(
        &tenant("listeners = [\"plnt\"]"),
        "weft.toml:2: tenant.t.listeners = [\"plnt\"]: there is no such listener; known: ",
    );
}

#[test]
fn a_route_names_a_store_and_a_filter_that_are_there() {
    let route = |line: &str| mistake(&format!("[[route]]\ntopic = \"a/#\"\n\n[[route]]\n{line}\n"), &[], &[]);
    starts(
        &route("topic = \"b\"\nstore = \"mian\""),
        "weft.toml:6: route[1].store = \"mian\": there is no such store; known: embedded; describe",
    );
    starts(&route("topic = \"b/#/c\""), "weft.toml:5: route[1].topic = \"b/#/c\": [MQTT-4.7.1-1] '#' is");
    starts(
        &route("topic = \"$share/g/b\""),
        "weft.toml:5: route[1].topic = \"$share/g/b\": a route cannot be",
    );
    starts(
        &route("topic = \"b\"\nfilter = \"cel: data = 1\""),
        "weft.toml:6: route[1].filter = \"cel: data = 1\": the cel filter is wrong: at character 6",
    );
    starts(
        &route("topic = \"b\"\ndurability = \"remote\""),
        "weft.toml:6: route[1].durability = \"remote\": the embedded log is not remote; ",
    );
    starts(&route("store = \"embedded\""), "weft.toml:4: route[1]: missing field `topic`");
    starts(
        &route("topic = \"b\"\nlistener = \"plnt\""),
        "weft.toml:6: route[1].listener = \"plnt\": there is no such listener; known: mqtt, http",
    );
    let target = |line: &str| route(&format!("topic = \"b\"\n[[route.to]]\n{line}"));
    for (line, mistake) in [
        ("store = \"mian\"", "to[0].store = \"mian\": there is no such store; known: embedded"),
        ("topic = \"$SYS/{1}\"", "to[0].topic = \"$SYS/{1}\": at character 1: topics of $SYS"),
        ("topic = \"a/{dta.x}\"", "to[0].topic = \"a/{dta.x}\": at character 4: \"dta.x\" is no place"),
        ("set = { x = \"}\" }", "to[0].set.x = \"}\": at character 1: \"}\" closes no place"),
        ("rename = { id = \"x\" }", "to[0].rename.id = \"x\": every event has id"),
        ("data = \"cel: data +\"", "to[0].data = \"cel: data +\": at character 7"),
        ("tpic = \"a\"", "to[0].tpic: there is no such key; did you mean route[1].to[0].topic?"),
        ("missing = \"never\"", "to[0].missing = \"never\": unknown variant `never`"),
    ] {
        starts(&target(line), &format!("weft.toml:7: route[1].{mistake}"));
    }
}

#[test]
fn clusters_and_bridges_are_checked() {
    let bridge =
        "[rocketmq.main]\n\n[bridge.b]\ncluster = \"main\"\nout = [{ filter = \"a/#\", topic = \"A\" }]\n";
    starts(
        &mistake(&bridge.replace("\"main\"", "\"mian\""), &[], &[]),
        "weft.toml:4: bridge.b.cluster = \"mian\": there is no such store; known: main; ",
    );
    starts(
        &mistake(&bridge.replace("\"A\"", "\"a/b\""), &[], &[]),
        "weft.toml:5: bridge.b.out.topic: out.topic is \"a/b\"",
    );
    starts(
        &mistake(&bridge.replace("topic", "to"), &[], &[]),
        "weft.toml:5: bridge.b.out[0].to: there is no such key",
    );
    starts(
        &mistake("[rocketmq.main]\nname_servers = []\n", &[], &[]),
        "weft.toml:2: rocketmq.main.name_servers = []: ",
    );
    starts(
        &mistake("[rocketmq.main]\nrequest_ms = 1\n", &[], &[]),
        "weft.toml:2: rocketmq.main.request_ms = 1: out of range 500..=60000; Milliseconds",
    );
    starts(
        &mistake("[rocketmq.embedded]\n", &[], &[]),
        "weft.toml:1: rocketmq.embedded: the embedded log has",
    );
    starts(
        &mistake("", &[("WEFT_ROCKETMQ__MAIN__ACCESS_KEY", "a")], &[]),
        "environment variable WEFT_ROCKETMQ__MAIN__ACCESS_KEY: rocketmq.main.access_key = a: access_key and",
    );
}

#[test]
fn flags_are_stronger_than_variables_and_those_than_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weft.toml");
    std::fs::write(&path, "data = \"file\"\nstop_timeout_s = 1\n[mqtt]\nlisten = \"127.0.0.1:1\"\n").unwrap();
    let environment =
        [("WEFT_DATA", "123"), ("WEFT_MQTT__LISTEN", "127.0.0.1:2"), ("WEFT_SERVICE_HOST", "not ours")];
    let loaded =
        load(&sources(Some(path), &environment, &[("--mqtt", "mqtt.listen", "127.0.0.1:3")])).unwrap();
    assert_eq!(loaded.config.mqtt.listen.to_string(), "127.0.0.1:3");
    assert_eq!(loaded.config.data, PathBuf::from("123"));
    assert_eq!(loaded.config.stop_timeout_s, 1);
    assert_eq!(loaded.config.http.listen.to_string(), "127.0.0.1:8080");
}

#[test]
fn listeners_are_checked() {
    let listener = |lines: &str| mistake(&format!("[listener.plant]\n{lines}\n"), &[], &[]);
    starts(&listener("protocol = \"mqtt\""), "weft.toml:1: listener.plant: missing field `listen`");
    starts(
        &listener("listen = \"127.0.0.1:0\"\nprotocol = \"amqp\""),
        "weft.toml:3: listener.plant.protocol = \"amqp\": unknown variant `amqp`, expected one of `mqtt`, `http`, `grpc`, `eventmesh-tcp`, `eventmesh-http`, `eventmesh-admin`; What is",
    );
    starts(
        &listener("listen = \"127.0.0.1:0\"\ncarier = \"tcp\""),
        "weft.toml:3: listener.plant.carier: there is no such key; did you mean listener.plant.carrier?",
    );
    starts(
        &listener("listen = \"0.0.0.0:1\""),
        "weft.toml:2: listener.plant.listen = \"0.0.0.0:1\": other machines can reach this",
    );
    starts(
        &listener("listen = \"127.0.0.1:1883\""),
        "weft.toml:2: listener.plant.listen = \"127.0.0.1:1883\": mqtt.listen is the same address; ",
    );
    starts(
        &mistake("[listener.mqtt]\nlisten = \"127.0.0.1:1\"\n", &[], &[]),
        "weft.toml:1: listener.mqtt: a listener that is always there has this name; give it another",
    );
    starts(
        &mistake("[listener.\"a b\"]\nlisten = \"127.0.0.1:1\"\n", &[], &[]),
        "weft.toml:1: listener.a b: logs and metrics cannot show this name; letters",
    );
}

#[test]
fn what_stands_in_front_of_a_listener_is_checked() {
    let listener =
        |lines: &str| mistake(&format!("[listener.plant]\nlisten = \"127.0.0.1:0\"\n{lines}\n"), &[], &[]);
    starts(
        &listener("proxy_protocol = \"required\""),
        "weft.toml:3: listener.plant.proxy_protocol = \"required\": no proxy is trusted; name the proxies",
    );
    starts(
        &listener("trusted_proxies = [\"10.0.0.0/33\"]"),
        "weft.toml:3: listener.plant.trusted_proxies = [\"10.0.0.0/33\"]: \"10.0.0.0/33\" is no address or network",
    );
    starts(
        &listener("carrier = \"tls\""),
        "weft.toml:1: listener.plant.tls.certificate: TLS needs a certificate; make one to try it: weft cert",
    );
    starts(
        &listener("[listener.plant.tls]\ncertificate = \"a.pem\""),
        "weft.toml:1: listener.plant.carrier: the table tls says nothing to \"tcp\"; write carrier",
    );
    let quic = |lines: &str| {
        let tls = "[listener.plant.tls]\ncertificate = \"a\"\nkey = \"b\"";
        listener(&format!("carrier = \"quic\"\n{lines}\n{tls}"))
    };
    starts(
        &listener("carrier = \"quic\""),
        "weft.toml:1: listener.plant.tls.certificate: TLS needs a certificate; make one to try it: weft cert",
    );
    starts(
        &listener("[listener.plant.quic]\nmigration = false"),
        "weft.toml:1: listener.plant.carrier: the table quic says nothing to \"tcp\"; write carrier = \"quic\"",
    );
    starts(
        &quic("protocol = \"http\""),
        "weft.toml:4: listener.plant.protocol = \"http\": QUIC carries MQTT only; write protocol = \"mqtt\"",
    );
    starts(
        &quic("proxy_protocol = \"required\"\ntrusted_proxies = [\"10.0.0.1\"]"),
        "weft.toml:4: listener.plant.proxy_protocol = \"required\": no proxy passes QUIC on with a header; take it",
    );
    starts(
        &quic("[listener.plant.quic]\nwindow_bytes = \"1 KiB\""),
        "weft.toml:5: listener.plant.quic.window_bytes = \"1 KiB\": out of range 16 KiB to 256 MiB",
    );
    let tls = |lines: &str| {
        listener(&format!(
            "carrier = \"tls\"\n[listener.plant.tls]\ncertificate = \"a\"\nkey = \"b\"\n{lines}"
        ))
    };
    starts(
        &tls("client_certificates = \"required\""),
        "weft.toml:4: listener.plant.tls.client_ca: clients' certificates need a CA; name",
    );
    starts(
        &tls("client_ca = \"ca.pem\""),
        "weft.toml:4: listener.plant.tls.client_certificates: clients are not asked for",
    );
    starts(
        &tls("handshake_timeout_s = 0"),
        "weft.toml:7: listener.plant.tls.handshake_timeout_s = 0: out of range 1..=300; How long",
    );
    starts(
        &tls("min_version = \"1.1\""),
        "weft.toml:7: listener.plant.tls.min_version = \"1.1\": unknown variant",
    );
}

#[test]
fn webhooks_are_checked() {
    let hook = |lines: &str| mistake(&format!("[hook.h]\nurl = \"http://h/\"\n{lines}\n"), &[], &[]);
    starts(&hook(""), "weft.toml:1: hook.h.topics: no topic filter: it would get nothing");
    let hook = |lines: &str| hook(&format!("topics = [\"a/#\"]\n{lines}"));
    starts(
        &hook("filter = \"cel: data.t >\""),
        "weft.toml:4: hook.h.filter = \"cel: data.t >\": the cel filter is wrong: ",
    );
    starts(&hook("filter = \"t > 1\""), "weft.toml:4: hook.h.filter = \"t > 1\": a filter is \"cesql: ");
    starts(&hook("in_flight = 0"), "weft.toml:4: hook.h.in_flight = 0: out of range 1..=1000; Events on");
    starts(&hook("mode = \"batched\""), "weft.toml:4: hook.h.mode = \"batched\": unknown variant");
    starts(
        &mistake("[hook.\"a/b\"]\nurl = \"http://h/\"\ntopics = [\"a\"]\n", &[], &[]),
        "weft.toml:1: hook.a/b: logs and metrics cannot show this name; letters",
    );
    starts(
        &mistake("[hook.h]\nurl = \"ftp://h/\"\ntopics = [\"a\"]\n", &[], &[]),
        "weft.toml:2: hook.h.url = \"ftp://h/\": a webhook is reached by http or https",
    );
}

#[test]
fn names_of_eventmesh_have_to_be_headers_and_topics() {
    starts(
        &mistake("[eventmesh]\nidc = \"far away\"\n", &[], &[]),
        "weft.toml:2: eventmesh.idc = \"far away\": no header can have this; 1 to 128 letters",
    );
    starts(
        &mistake("[webhook]\ndead_letters = \"dead/#\"\n", &[], &[]),
        "weft.toml:2: webhook.dead_letters = \"dead/#\": ",
    );
    starts(
        &mistake("[eventmesh_http]\nbodies_bytes_max = \"512 KiB\"\n", &[], &[]),
        "weft.toml:2: eventmesh_http.bodies_bytes_max = \"512 KiB\": less than eventmesh_http.body_bytes_max",
    );
}
