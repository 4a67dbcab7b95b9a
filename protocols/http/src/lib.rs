//! CloudEvents over HTTP: publish, and read as server-sent events.
