//! The core of Weft: routes, subscriptions, sessions and dispatch. It knows no protocol and no kind of store: protocols
//! reach it through [`event::hub`], it reaches stores through [`event::store`].
//!
//! [`Core`] is the only way in. How events walk through it, and why, is told in ARCHITECTURE.md.

mod account;
mod admin;
mod audit;
mod breaker;
mod checkpoint;
mod core;
mod dispatch;
mod feed;
#[cfg(test)]
mod format_tests;
mod group;
mod held;
pub mod inspect;
mod intake;
mod keeper;
mod ledger;
mod matching;
mod metrics;
mod notes;
mod options;
mod publish;
mod quota;
mod redelivery;
mod replay;
mod retained;
mod rights;
mod select;
mod session;
mod shared;
mod system;
mod table;
mod tenant;
#[cfg(test)]
mod testing;
pub mod trace;
mod trie;
mod turns;
mod unique;
mod wills;

pub use crate::core::{Core, Recovered};
pub use group::Strategy;
pub use options::{
    BreakerOptions, FilterOptions, HeldOptions, Options, QueueFull, RedeliveryOptions, ReplayOptions,
    SharedOptions,
};
pub use quota::{Each, QuotaOptions};
pub use table::{EMBEDDED, Missing, RouteFilter, RouteMistake, RouteOptions, TargetOptions};
pub use tenant::TenantOptions;
