//! Fakes, and the contracts that every hub and store must pass.

mod memory_store;

pub use memory_store::MemoryStore;
