//! EventMesh over HTTP: publish, subscribe webhooks, request and reply.
//!
//! * [`request`] reads what is asked, in both styles: by the header `code` with a form, and by paths below `/eventmesh/`.
//! * [`binding`] turns what publishers send into events, and events into what is posted to webhooks.
//! * [`error`] has the `retCode`s; every request gets an answer with one.
//! * [`router`] serves it all. Webhooks are served by `webhook`, and connections by whoever mounts the router.

pub mod binding;
mod driver;
pub mod error;
mod exercise;
mod options;
pub mod request;

pub use driver::{Parts, router};
pub use exercise::exercise;
pub use options::Options;
