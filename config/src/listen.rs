//! Where a listener listens, and a listener's table: its address beside the options of its protocol.

use std::fmt;
use std::marker::PhantomData;
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;

use schemars::JsonSchema;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Serialize};

/// An IP address and a port; `localhost:1883` is the IPv4 loopback address. Port 0 lets the system choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(with = "String")]
pub struct Address(pub SocketAddr);

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numeric = match text.strip_prefix("localhost:") {
            Some(port) => format!("{}:{port}", Ipv4Addr::LOCALHOST),
            None => text.to_owned(),
        };
        numeric.parse().map(Self).map_err(|_| {
            format!("{text:?} is not an IP address and a port, such as \"127.0.0.1:1883\" or \"[::1]:1883\"")
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Address {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// One table with the key `listen`, `PORT` of the IPv4 loopback address by default, and beside it the keys of `O`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(rename = "Listener{PORT}")]
pub struct Listener<O, const PORT: u16> {
    /// Address to listen on. Port 0 takes a free port. Others than loopback addresses need `access` or `allow_anonymous`.
    pub listen: Address,
    /// The protocol's own options.
    #[serde(flatten)]
    pub options: O,
}

impl<O: Default, const PORT: u16> Default for Listener<O, PORT> {
    fn default() -> Self {
        Self { listen: loopback(PORT), options: O::default() }
    }
}

/// A port of the IPv4 loopback address.
pub(crate) fn loopback(port: u16) -> Address {
    Address((Ipv4Addr::LOCALHOST, port).into())
}

/// Reads the table as an `O` that does not see `listen`. serde's own `flatten` would lose the place of a mistake and
/// the refusal of unknown keys.
impl<'de, O: Deserialize<'de>, const PORT: u16> Deserialize<'de> for Listener<O, PORT> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (listen, options) = deserializer.deserialize_map(TableVisitor(PhantomData))?;
        Ok(Self { listen: listen.unwrap_or(loopback(PORT)), options })
    }
}

struct TableVisitor<O>(PhantomData<O>);

impl<'de, O: Deserialize<'de>> Visitor<'de> for TableVisitor<O> {
    type Value = (Option<Address>, O);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        let mut listen = None;
        let options = O::deserialize(MapAccessDeserializer::new(Rest { map, listen: &mut listen }))?;
        Ok((listen, options))
    }
}

/// The entries of a table but for `listen`, which goes to its own place.
struct Rest<'a, A> {
    map: A,
    listen: &'a mut Option<Address>,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Rest<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        let mut seed = Some(seed);
        loop {
            match self.map.next_key_seed(Key(&mut seed))? {
                None => return Ok(None),
                Some(Some(key)) => return Ok(Some(key)),
                Some(None) => *self.listen = Some(self.map.next_value()?),
            }
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}

/// Gives a key to the seed behind it, unless the key is `listen`.
struct Key<'a, K>(&'a mut Option<K>);

impl<'de, K: DeserializeSeed<'de>> DeserializeSeed<'de> for Key<'_, K> {
    type Value = Option<K::Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        use serde::de::{Error, IntoDeserializer};
        let name = String::deserialize(deserializer)?;
        if name == "listen" {
            return Ok(None);
        }
        let seed = self.0.take().ok_or_else(|| Error::custom("a key was asked for twice"))?;
        seed.deserialize(name.into_deserializer()).map(Some)
    }
}
