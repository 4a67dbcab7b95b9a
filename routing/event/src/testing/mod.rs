//! Fakes, runs that follow from a seed, and the contracts that every hub and store must pass.

mod fake_hub;
pub mod hub_contract;
mod memory_store;
mod scripted_gate;
mod seeds;
pub mod store_contract;

pub use fake_hub::{Answer, Call, FakeHub, next_deliveries, take_deliveries};
pub use memory_store::MemoryStore;
pub use scripted_gate::ScriptedGate;
pub use seeds::{Chance, seeds};
