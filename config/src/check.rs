//! What no single setting shows: settings that do not go together.

use embedded::OpenError;
use rocketmq::OptionsError;
use routing::EMBEDDED;

use crate::load::Written;
use crate::place::{Key, Mistake};
use crate::{Address, Config};

/// Checks `config` across its tables.
pub(crate) fn across(config: &Config, written: &Written) -> Result<(), Mistake> {
    log_level(config, written)?;
    listeners(config, written)?;
    store(config, written)?;
    clusters(config, written)?;
    bridges(config, written)?;
    routes(config, written)
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

fn listeners(config: &Config, written: &Written) -> Result<(), Mistake> {
    let (mqtt, http) = (Key::dotted("mqtt.listen"), Key::dotted("http.listen"));
    for (key, address) in [(&mqtt, config.mqtt.listen), (&http, config.http.listen)] {
        if !address.0.ip().is_loopback() && !config.allow_anonymous {
            return Err(written.mistake(
                key,
                "other machines can reach this address, and Weft does not ask yet who connects",
                "listen on 127.0.0.1, or say that everybody may connect: allow_anonymous = true, or --allow-anonymous",
            ));
        }
    }
    if same_place(config.mqtt.listen, config.http.listen) {
        return Err(written.mistake(
            &http,
            "mqtt.listen is the same address",
            "give each listener a port of its own",
        ));
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
    for (name, cluster) in &config.rocketmq {
        let key = Key::dotted("rocketmq").name(name);
        if name == EMBEDDED {
            return Err(written.mistake(
                &key,
                "the embedded log has this name",
                "give the cluster another name",
            ));
        }
        cluster.check().map_err(|error| rocketmq_mistake(written, &key, &error))?;
    }
    Ok(())
}

fn bridges(config: &Config, written: &Written) -> Result<(), Mistake> {
    for (name, bridge) in &config.bridges {
        let key = Key::dotted("bridge").name(name);
        if !config.rocketmq.contains_key(&bridge.cluster) {
            return Err(unknown_cluster(config, written, &key.name("cluster"), &[]));
        }
        bridge.check(name).map_err(|error| rocketmq_mistake(written, &key, &error))?;
    }
    Ok(())
}

fn rocketmq_mistake(written: &Written, table: &Key, error: &OptionsError) -> Mistake {
    let name = match error {
        OptionsError::NoNameServer | OptionsError::NameServer(_) => "name_servers",
        OptionsError::HalfCredentials => "access_key",
        OptionsError::SecretKey { .. } => "secret_key_file",
        OptionsError::Name { key, .. } | OptionsError::Range { key, .. } => key,
        OptionsError::Template(_) => "in",
        OptionsError::NoRules => return written.mistake(table, error.to_string(), ""),
    };
    let key = name.split('.').fold(table.clone(), |key, part| key.name(part));
    written.mistake(&key, error.to_string(), "")
}

fn routes(config: &Config, written: &Written) -> Result<(), Mistake> {
    for (index, route) in config.routes.iter().enumerate() {
        let key = Key::dotted("route").index(index);
        if route.topic.share().is_some() {
            let hint = "write the filter alone: a route takes every event that it matches";
            return Err(written.mistake(&key.name("topic"), "a route cannot be a shared subscription", hint));
        }
        if route.store == EMBEDDED {
            if route.durability == event::Durability::Remote {
                let hint = "\"synced\" is the strongest promise of one machine";
                return Err(written.mistake(&key.name("durability"), "the embedded log is not remote", hint));
            }
        } else if !config.rocketmq.contains_key(&route.store) {
            return Err(unknown_cluster(config, written, &key.name("store"), &[EMBEDDED]));
        }
    }
    Ok(())
}

/// `key` names a cluster that is not there.
fn unknown_cluster(config: &Config, written: &Written, key: &Key, others: &[&str]) -> Mistake {
    let known: Vec<&str> = others.iter().copied().chain(config.rocketmq.keys().map(String::as_str)).collect();
    let hint = match known.is_empty() {
        true => "describe the cluster in a table [rocketmq.NAME]".to_owned(),
        false => format!("known: {}; describe a cluster in a table [rocketmq.NAME]", known.join(", ")),
    };
    written.mistake(key, "there is no such store", hint)
}

fn same_place(a: Address, b: Address) -> bool {
    let (a, b) = (a.0, b.0);
    a.port() != 0
        && a.port() == b.port()
        && (a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified())
}
