//! WebSocket (RFC 6455): a carrier for MQTT, and CloudEvents frames for browsers.
//!
//! * [`accept_mqtt`] answers a handshake for the subprotocol `mqtt` and yields a [`Carrier`]: a stream of bytes.
//! * [`accept`] answers one for any subprotocol and yields its [`Messages`].
//! * [`accept_events`] answers a handshake for the subprotocol `cloudevents.json` and serves it:
//!
//! Every text frame is one CloudEvent in JSON. What a client sends is published, but for three types that ask Weft:
//!
//! | client sends `type` | `data` | Weft answers `type` | `data` |
//! |---|---|---|---|
//! | any other | any | `weft.published` once it is kept | `{"id", "source"}` |
//! | `weft.subscribe` | `{"topic": F or [F, …], "guarantee": 0, 1 or 2, "from": START}` | `weft.subscribed` | `{"of", "topics": [{"topic", "guarantee"} or {"topic", "kind", "reason"}], "as_of"}` |
//! | `weft.unsubscribe` | `{"topic": F or [F, …]}` | `weft.unsubscribed` | `{"of", "topics": [{"topic", "was_there"}]}` |
//! | `weft.ack` | `{"positions": [POSITION, …]}` or `{"upto": POSITION}` | nothing | |
//! | what cannot be done | | `weft.error` | `{"of", "kind", "reason", "retry_after_ms"}` |
//!
//! `of` is the `id` of what is answered. `guarantee` is 1 if left out. The topic of a publish is `wefttopic`, else
//! `subject`, else `type`; `weftretain: true` retains it. Delivered events carry `wefttopic`, which answers never do,
//! and `weftposition` if the log holds them. A POSITION is decimal digits, as text or as a number; a START is one of these
//! or another text of [`event::replay`]: events from there on come before the live ones follow, without gap or repeat.
//!
//! `?client=ID` in the URL takes up the session of that name, which stays for `&keep=SECONDS` after the connection; with
//! `&clean=true` an older one is forgotten. Its deliveries have to be acked, and come again in the next connection if they were
//! not. Without `client` the session ends with the connection, and deliveries are acked when they are written.

mod carrier;
mod connection;
mod deflate;
mod driver;
mod frame;
mod handshake;
mod options;
mod waits;

pub use carrier::Carrier;
pub use driver::{Accepted, Messages, accept, accept_events, accept_mqtt};
pub use options::Options;
