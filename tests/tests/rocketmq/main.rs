//! Weft and real brokers of RocketMQ, with its own client at the other end. Most of these tests wait, for brokers
//! to start and for times to pass: they are one program so that they wait side by side. Each has brokers, ports and folders of its own.

mod dledger;
mod groups;
mod matrix;
mod nodes;
mod outage;
mod reload;
mod rpc;
