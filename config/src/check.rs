//! What no single setting shows: settings that do not go together.

use crate::load::Written;
use crate::place::{Key, Mistake};
use crate::{Address, Config};

/// Checks `config` across its tables.
pub(crate) fn across(config: &Config, written: &Written) -> Result<(), Mistake> {
    listeners(config, written)
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

fn same_place(a: Address, b: Address) -> bool {
    let (a, b) = (a.0, b.0);
    a.port() != 0
        && a.port() == b.port()
        && (a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified())
}
