//! The reference: every key with its documentation and default, as a file that can be used.

use crate::Config;
use crate::place::Key;
use crate::schema::Schema;

const HEAD: &str = "\
Every setting of Weft with its default. Made from the documentation in the source; a test keeps it so.
This file changes nothing as it is: copy the lines that you want to change.

Weft reads the file that --config names, else weft.toml in the current folder, else nothing.
An environment variable is stronger than the file: WEFT_DATA, WEFT_MQTT__LISTEN (two underscores between table
and key). A flag of the command line is stronger than both. A mistake stops the start and names its place.

Sizes are numbers of bytes, or texts such as \"64 MiB\" (B, KiB, MiB, GiB).";

const TABLES: &str = "\
Tables that are not there by default. What follows is an example with every key: take the # away from the lines you
need. A table in [[double brackets]] may be repeated.";

/// Tables that are empty by default, with what is needed to show their keys.
const EXAMPLES: &str = "
    [listener.plant]
    listen = '127.0.0.1:8883'
    carrier = 'tls'
    trusted_proxies = ['10.0.0.5']
    [listener.plant.tls]
    certificate = '/etc/weft/server.pem'
    key = '/etc/weft/server.key'
    client_ca = '/etc/weft/clients-ca.pem'
    client_certificates = 'optional'
    crl = ['/etc/weft/revoked']
    [[listener.plant.tls.sni]]
    certificate = '/etc/weft/other.pem'
    key = '/etc/weft/other.key'
    [listener.plant.quic]

    [tenant.plant]
    users = ['plant-*']
    clients = ['plant/*']
    listeners = ['plant']

    [quota.plant]
    user = 'plant-*'
    tenant = 'plant'
    each = 'user'
    topic = 'plant/#'
    events_per_second = 1000
    bytes_per_second = '1 MiB'
    connections = 100
    subscriptions = 1000
    retained_events = 1000

    [rocketmq.main]
    name_servers = ['127.0.0.1:9876']
    node = 'a'
    access_key = 'weft'
    secret_key_file = '/etc/weft/rocketmq.key'
    tls_ca_file = '/etc/weft/rocketmq-ca.pem'
    namespace = 'plant'
    compress_above = '4 KiB'

    [defibus.bank]
    name_servers = ['127.0.0.1:9876']
    idc = 'GZ'

    [[store.retain]]
    topic = 'audit/#'
    age_s = 31536000

    [[route]]
    topic = 'orders/#'
    filter = 'cel: data.total > 100'
    listener = 'plant'
    copy = true
    store = 'main'
    [[route.to]]
    topic = 'large/{2}/{data.customer.region}'
    store = 'embedded'
    durability = 'written'
    when_full = 'refuse'
    key = '{data.customer.id}'
    data = 'json: {\"order\": \"{data.id}\", \"total\": \"{data.total}\"}'
    missing = 'skip'
    drop = ['secret']
    rename = { level = 'severity' }
    set = { region = 'eu', was = '{topic}' }

    [bridge.plant]
    cluster = 'main'
    group = 'weft-bridge-plant'
    [[bridge.plant.out]]
    filter = 'sensors/#'
    topic = 'Sensors'
    [[bridge.plant.in]]
    topic = 'Commands'
    tags = 'stop || go'
    to = 'commands/{tags}'

    [hook.alarms]
    url = 'https://example.org/alarms'
    topics = ['alarms/#']
    filter = 'cel: data.t > 80'
    token_file = '/etc/weft/alarms.token'
    secret_file = '/etc/weft/alarms.secret'
    ca_file = '/etc/weft/alarms-ca.pem'
    origin = 'weft.example.org'
";

/// The text of `config/weft.toml`.
pub fn reference() -> String {
    let schema = Schema::new();
    let mut text = String::new();
    for line in HEAD.lines() {
        comment(&mut text, line);
    }
    text.push('\n');
    let defaults = toml::to_string(&Config::default()).unwrap_or_default();
    render(&mut text, &schema, &defaults, "");
    if let Ok(examples) = toml::from_str::<Config>(EXAMPLES) {
        let all = toml::to_string(&examples).unwrap_or_default();
        // Only the tables that the defaults do not show.
        let from = |table: &str| all.find(table).map_or("", |at| all.get(at..).unwrap_or_default());
        text.push('\n');
        for line in TABLES.lines() {
            comment(&mut text, line);
        }
        let retain = from("\n[[store.retain]]").trim_start();
        let retain = retain.split_once("\n[").map_or(retain, |(first, _)| first);
        render(&mut text, &schema, retain, "# ");
        render(&mut text, &schema, from("\n[listener."), "# ");
    }
    text
}

/// Writes the lines of `toml` behind `prefix`, each with its documentation above it.
fn render(text: &mut String, schema: &Schema, toml: &str, prefix: &str) {
    let mut table = Key::default();
    let mut shown: Vec<String> = Vec::new();
    // Keys that users name stay in the table that they are in: `set = { name = "value" }`.
    let mut named: Option<(Key, Vec<&str>)> = None;
    for line in toml.lines().filter(|line| !line.is_empty()) {
        if line.starts_with('[') {
            write_named(text, schema, named.take(), prefix, &mut shown);
            let mut next = Key::dotted(line.trim_matches(['[', ']']));
            if line.starts_with("[[") {
                next = next.index(0);
            }
            if schema.names(&next).is_empty() {
                named = Some((next, Vec::new()));
                continue;
            }
            unset(text, schema, &table, &shown);
            shown.clear();
            table = next;
            text.push('\n');
            describe(text, schema, &table);
            text.push_str(&format!("{prefix}{line}\n"));
        } else if let Some((_, list)) = &mut named {
            list.push(line);
        } else if let Some((name, value)) = line.split_once(" = ") {
            shown.push(name.to_owned());
            if value == "[]" && schema.at(&table.name(name)).is_some_and(|node| node.is_list_of_tables()) {
                continue;
            }
            describe(text, schema, &table.name(name));
            text.push_str(&format!("{prefix}{line}\n"));
        }
    }
    write_named(text, schema, named, prefix, &mut shown);
    unset(text, schema, &table, &shown);
}

fn write_named(
    text: &mut String,
    schema: &Schema,
    named: Option<(Key, Vec<&str>)>,
    prefix: &str,
    shown: &mut Vec<String>,
) {
    let Some((key, list)) = named.filter(|(_, list)| !list.is_empty()) else { return };
    describe(text, schema, &key);
    text.push_str(&format!("{prefix}{} = {{ {} }}\n", key.last(), list.join(", ")));
    shown.push(key.last().to_owned());
}

/// The keys of `table` that have no default.
fn unset(text: &mut String, schema: &Schema, table: &Key, shown: &[String]) {
    if shown.is_empty() {
        return;
    }
    for name in schema.names(table) {
        let key = table.name(name);
        let is_table = schema.at(&key).is_some_and(|node| node.is_table() || node.is_list_of_tables());
        if !is_table && !shown.iter().any(|other| other == name) {
            describe(text, schema, &key);
            text.push_str(&format!("# {name} =\n"));
        }
    }
}

fn describe(text: &mut String, schema: &Schema, key: &Key) {
    let documentation = schema.at(key).map(|node| node.documentation()).unwrap_or_default();
    let mut line = String::new();
    for word in documentation.split(' ') {
        let quoted = line.matches('"').count() % 2 == 1;
        if !line.is_empty() && !quoted && line.len() + word.len() > WIDTH {
            comment(text, &line);
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    comment(text, &line);
}

fn comment(text: &mut String, line: &str) {
    text.push_str(format!("# {line}").trim_end());
    text.push('\n');
}

const WIDTH: usize = 108;
