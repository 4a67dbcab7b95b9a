//! The core of Weft: routes, subscriptions, sessions and dispatch.
