//! RocketMQ remoting frames.
