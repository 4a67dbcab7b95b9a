//! WebSocket as a carrier for MQTT, and CloudEvents frames for browsers.
