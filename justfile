# `just` lists the commands.

_default:
    @just --list

# What CI runs.
check:
    .ci/run

# Licences, advisories, duplicate versions (cargo install cargo-deny).
deny:
    cargo deny check

# One fuzz target for some time: mqtt_decode, mqtt_connection, tcp_decode, tcp_connection, eventmesh_http, grpc_binding, remoting_decode, log_read (cargo install cargo-fuzz; a nightly toolchain).
fuzz target="mqtt_decode" seconds="60":
    cd tests && cargo +nightly fuzz run {{target}} fuzz/corpora/{{target}} -- -max_total_time={{seconds}}

# Weft, mosquitto, rumqttd and NATS, each alone, as a table.
bench *flags:
    cargo run -p weft-tests --example bench -- {{flags}}

# The simulations of log and core over many seeds.
sim seeds="2000":
    WEFT_SIM_SEEDS={{seeds}} cargo test --release -p weft-routing -p weft-embedded

# Log, core and MQTT on 32-bit ARM, under qemu (rustup target add armv7-unknown-linux-gnueabihf; apt install gcc-arm-linux-gnueabihf
# libc6-dev-armhf-cross qemu-user).
arm seeds="16":
    CARGO_TARGET_ARMV7_UNKNOWN_LINUX_GNUEABIHF_LINKER=arm-linux-gnueabihf-gcc \
    CARGO_TARGET_ARMV7_UNKNOWN_LINUX_GNUEABIHF_RUNNER="qemu-arm -L /usr/arm-linux-gnueabihf" WEFT_SIM_SEEDS={{seeds}} \
    cargo test --target armv7-unknown-linux-gnueabihf -p weft-event -p weft-embedded -p weft-routing -p weft-mqtt
