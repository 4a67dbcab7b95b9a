//! RocketMQ as the store of a route and as a bridge.
