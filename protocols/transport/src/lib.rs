//! What carriers share: listeners, streams and accept limits.
