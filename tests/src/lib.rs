//! The harness of Weft's end-to-end tests: it starts the real program on free ports, drives it with real clients
//! and with a raw one, kills it, starts it again, and keeps books on what was acknowledged and what arrived.
//!
//! | module | what it holds |
//! |---|---|
//! | [`weft`] | the program under test: start, SIGKILL, SIGTERM, restart, `/ready`, `/metrics`, memory |
//! | [`wire`], [`raw`] | MQTT byte by byte, sharing no code with Weft, and a client on it |
//! | [`actors`] | publishers and subscribers that keep to the protocol across any number of kills |
//! | [`cloud`] | CloudEvents, to write and to compare |
//! | [`eventmesh`], [`eventmesh_grpc`], [`eventmesh_web`] | EventMesh's protocols byte by byte: TCP, gRPC, and HTTP with webhooks |
//! | [`ledger`] | what was sent, acknowledged and received, and the promises checked over it |
//! | [`witness`] | a pair of clients that must not notice what a test does to others |
//! | [`authority`] | certificates |
//! | [`hook`] | a webhook |
//! | [`gate`] | a network that a test can cut |
//! | [`quic`] | a QUIC client |
//! | [`socket`] | a WebSocket client |
//! | [`sse`] | server-sent events as a reader reads them |
//! | [`real`] | other people's clients: mosquitto, Paho, HiveMQ's, MQTT.js, curl, Chromium, aioquic, the Java clients of RocketMQ, DeFiBus and EventMesh, the CloudEvents SDKs |
//! | [`requests`] | requests and replies between clients here and a Java client behind a store |
//! | [`process`], [`util`] | child processes with their output kept; ports, seeds, waiting |
//!
//! | variable | meaning |
//! |---|---|
//! | `WEFT_REQUIRE_REAL=1` | a missing tool fails the test that needs it, instead of skipping it |
//! | `WEFT_BIN` | test this program instead of building one |
//! | `WEFT_TEST_SEED` | seed of the random moments; a failure prints the one it had |

pub mod actors;
pub mod authority;
pub mod cloud;
pub mod eventmesh;
pub mod eventmesh_grpc;
pub mod eventmesh_web;
pub mod gate;
pub mod hook;
pub mod ledger;
pub mod process;
pub mod quic;
pub mod raw;
pub mod real;
pub mod requests;
pub mod socket;
pub mod sse;
pub mod util;
pub mod weft;
pub mod wire;
pub mod witness;

pub use ledger::{Ledger, Promise};
pub use process::Process;
pub use util::{PATIENCE, Rng, eventually, pause, seed};
pub use weft::Weft;
pub use witness::Witness;
