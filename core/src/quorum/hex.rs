//! Fixed numbers of bytes that people and carriers write in hexadecimal digits.

use alloc::vec::Vec;

/// The bytes that `text` spells: exactly twice as many digits, of either case.
pub(super) fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let digit = |digit: u8| (digit as char).to_digit(16);
    let bytes = digits.chunks_exact(2).map(|pair| {
        let byte = digit(pair[0])? << 4 | digit(pair[1])?;
        u8::try_from(byte).ok()
    });
    bytes.collect::<Option<Vec<u8>>>()?.try_into().ok()
}

/// A newtype over bytes: shown and read as hexadecimal digits, also by serde where people read, and
/// as plain bytes where they do not.
macro_rules! hex_type {
    ($(#[$about:meta])* $name:ident, $len:literal) => {
        $(#[$about])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub [u8; $len]);

        impl ::core::fmt::Display for $name {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl ::core::fmt::Debug for $name {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                self.0.iter().take(5).try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl $name {
            /// From hexadecimal digits of either case, two a byte and nothing else.
            #[must_use]
            pub fn from_hex(text: &str) -> Option<$name> {
                $crate::quorum::hex::decode(text).map($name)
            }
        }

        impl ::serde::Serialize for $name {
            fn serialize<S: ::serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                if to.is_human_readable() {
                    return to.collect_str(self);
                }
                use ::serde::ser::SerializeTuple as _;
                let mut tuple = to.serialize_tuple($len)?;
                self.0.iter().try_for_each(|byte| tuple.serialize_element(byte))?;
                tuple.end()
            }
        }

        impl<'de> ::serde::Deserialize<'de> for $name {
            fn deserialize<D: ::serde::Deserializer<'de>>(from: D) -> Result<$name, D::Error> {
                struct Digits;
                impl<'de> ::serde::de::Visitor<'de> for Digits {
                    type Value = $name;
                    fn expecting(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                        write!(f, "{} bytes", $len)
                    }
                    fn visit_str<E: ::serde::de::Error>(self, text: &str) -> Result<$name, E> {
                        let wrong = || E::custom("not the right number of hexadecimal digits");
                        $name::from_hex(text).ok_or_else(wrong)
                    }
                    fn visit_seq<A: ::serde::de::SeqAccess<'de>>(
                        self,
                        mut seq: A,
                    ) -> Result<$name, A::Error> {
                        let mut bytes = [0; $len];
                        for (at, byte) in bytes.iter_mut().enumerate() {
                            let short = || ::serde::de::Error::invalid_length(at, &"bytes");
                            *byte = seq.next_element()?.ok_or_else(short)?;
                        }
                        Ok($name(bytes))
                    }
                }
                if from.is_human_readable() {
                    return from.deserialize_str(Digits);
                }
                from.deserialize_tuple($len, Digits)
            }
        }
    };
}

pub(super) use hex_type;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_exact() {
        assert_eq!(decode::<2>("0aFf"), Some([0x0a, 0xff]));
        for wrong in ["", "0aF", "0aFf0", "0aFg", "0a F", "+1+1", "éé"] {
            assert_eq!(decode::<2>(wrong), None, "{wrong}");
        }
    }
}
