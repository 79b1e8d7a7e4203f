//! Lets an enum be written as its name alone, `optimizer = "sgd"`, or with settings, `optimizer = { sgd = { momentum = 0.5 } }`.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::{MapAccessDeserializer, MapDeserializer};
use serde::de::{Deserialize, Deserializer, Error, IntoDeserializer, MapAccess, Visitor};

/// Reads `T` from a variant name (its settings take their defaults) or from a table with one key.
pub(super) fn read<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    from.deserialize_any(NameOrTable(PhantomData))
}

struct NameOrTable<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for NameOrTable<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a name, or a table with one name as its key")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<T, E> {
        let unit: Result<T, E> = T::deserialize(name.into_deserializer());
        let no_settings = || MapDeserializer::new(std::iter::empty::<(&str, &str)>());
        unit.or_else(|_| {
            let table = MapDeserializer::new(std::iter::once((name, no_settings())));
            T::deserialize(MapAccessDeserializer::new(table))
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(table))
    }
}
