//! Reads enumerations whose JSON is an object that begins with the variant's name.
//!
//! ```text
//! {"type": "prepared",  "initialised": true}
//!  └ tag    └ variant   └ what the variant has, straight from the text
//! ```
//!
//! serde's own way with such enumerations is to read the whole object into memory first, for its tag may stand anywhere. A
//! guest would choose what that costs: a list of numbers takes many times its length. Here the tag comes first, as both
//! ends write it, and nothing is kept but what a variant has.

use std::fmt;

use serde::{
    de::{
        DeserializeSeed, Deserializer, EnumAccess, Error as _, IgnoredAny, MapAccess, Unexpected,
        VariantAccess, Visitor, value::MapAccessDeserializer,
    },
    forward_to_deserialize_any,
};

/// A deserializer for an enumeration that serde would have outside of its variants' fields.
pub(crate) struct Tagged<D> {
    /// The key whose value is the variant's name.
    pub(crate) tag: &'static str,
    /// Where the object is.
    pub(crate) from: D,
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Tagged<D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.from.deserialize_map(Object { tag: self.tag, visitor })
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

struct Object<V> {
    tag: &'static str,
    visitor: V,
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Object<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object that begins with `{}`", self.tag)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<V::Value, A::Error> {
        if map.next_key_seed(Tag(self.tag))?.is_none() {
            return Err(A::Error::missing_field(self.tag));
        }
        self.visitor.visit_enum(Variant(map))
    }
}

/// A key that has to be this one.
struct Tag(&'static str);

impl<'de> DeserializeSeed<'de> for Tag {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for Tag {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` as the first key", self.0)
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<(), E> {
        if key == self.0 { Ok(()) } else { Err(E::invalid_value(Unexpected::Str(key), &self)) }
    }
}

/// What follows the tag's key.
struct Variant<A>(A);

impl<'de, A: MapAccess<'de>> EnumAccess<'de> for Variant<A> {
    type Error = A::Error;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(mut self, seed: S) -> Result<(S::Value, Self), A::Error> {
        let name = self.0.next_value_seed(seed)?;
        Ok((name, self))
    }
}

impl<'de, A: MapAccess<'de>> VariantAccess<'de> for Variant<A> {
    type Error = A::Error;

    fn unit_variant(mut self) -> Result<(), A::Error> {
        match self.0.next_key::<IgnoredAny>()? {
            Some(IgnoredAny) => Err(A::Error::custom("a field where there are none")),
            None => Ok(()),
        }
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, A::Error> {
        seed.deserialize(MapAccessDeserializer::new(self.0))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _length: usize, _visitor: V) -> Result<V::Value, A::Error> {
        Err(A::Error::custom("a list in place of fields"))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        visitor.visit_map(self.0)
    }
}
