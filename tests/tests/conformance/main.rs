//! Conformance: one test for each normative statement of MQTT 5.0 and 3.1.1 that binds a server, over the wire against the
//! real program, named after its clause. `tests/conformance/*.toml` tells which test proves which statement.

mod auth;
mod connack;
mod connect;
mod disconnect;
mod flow;
mod packets;
mod peer;
mod properties;
mod publish;
mod qos;
mod reasons;
mod retain;
mod scram;
mod session;
mod share;
mod subscribe;
mod table;
mod topics;
mod unsubscribe;
mod utf8;
mod websocket;
mod will;
