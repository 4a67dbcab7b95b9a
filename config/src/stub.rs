//! Options that their crates do not have yet.
macro_rules! stub { ($($name:ident),*) => { $(
    pub(crate) mod $name {
        #[derive(Clone, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
        #[serde(default, deny_unknown_fields)]
        pub struct Options { /// Number. Default 5; 1..=9.
            #[schemars(range(min = 1, max = 9))]
            pub number: u16 }
        impl Default for Options { fn default() -> Self { Self { number: 5 } } }
        pub type ClusterOptions = Options; pub type BridgeOptions = Options;
    }
)* } }
stub!(mqtt, http_front, websocket, transport, embedded, rocketmq);
