//! The names of slots.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::borrow::Borrow;
use core::cmp::Ordering;
use core::fmt;

/// The longest name that costs no allocation, nor a look elsewhere when the index is searched: the
/// longest that fits where a pointer, a length and a tag would be.
const SHORT_BYTES: usize = 22;

/// The name of a slot: a key, or a key and a member of the set there. The encoding keeps the order of
/// keys: a zero byte in the key becomes `00 ff`, and the key ends in `00 01` (its value) or `00 02` (a
/// member, which follows), as in FoundationDB's tuple layer.
#[derive(Clone)]
pub struct SlotName(Name);

#[derive(Clone)]
enum Name {
    Short { len: u8, bytes: [u8; SHORT_BYTES] },
    Long(Box<[u8]>),
}

impl SlotName {
    /// The slot of the register or counter at `key`.
    #[must_use]
    pub fn value(key: &[u8]) -> SlotName {
        SlotName::new(key, &[0, 1], &[])
    }

    /// The slot of `member` in the set at `key`.
    #[must_use]
    pub fn member(key: &[u8], member: &[u8]) -> SlotName {
        SlotName::new(key, &[0, 2], member)
    }

    /// Where the slots of keys that start with `prefix` begin.
    #[must_use]
    pub fn prefix(prefix: &[u8]) -> Box<[u8]> {
        escape(prefix, &[], &[])
    }

    /// The encoded name.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Name::Short { len, bytes } => &bytes[..usize::from(*len)],
            Name::Long(bytes) => bytes,
        }
    }

    /// The key and, for a member's slot, the member, of an encoded name.
    #[must_use]
    pub fn parts(name: &[u8]) -> (Vec<u8>, Option<&[u8]>) {
        let mut key = Vec::with_capacity(name.len());
        let mut rest = name;
        loop {
            match rest {
                [0, 0xff, tail @ ..] => {
                    key.push(0);
                    rest = tail;
                }
                [0, 2, member @ ..] => return (key, Some(member)),
                [0, ..] | [] => return (key, None),
                [byte, tail @ ..] => {
                    key.push(*byte);
                    rest = tail;
                }
            }
        }
    }

    fn new(key: &[u8], end: &[u8], member: &[u8]) -> SlotName {
        let len = key.len() + end.len() + member.len();
        if len > SHORT_BYTES || key.contains(&0) {
            return SlotName(Name::Long(escape(key, end, member)));
        }
        let mut bytes = [0; SHORT_BYTES];
        bytes[..key.len()].copy_from_slice(key);
        bytes[key.len()..][..end.len()].copy_from_slice(end);
        bytes[key.len() + end.len()..len].copy_from_slice(member);
        SlotName(Name::Short { len: len as u8, bytes })
    }
}

fn escape(key: &[u8], end: &[u8], member: &[u8]) -> Box<[u8]> {
    let zeros = key.iter().filter(|byte| **byte == 0).count();
    let mut name = Vec::with_capacity(key.len() + zeros + end.len() + member.len());
    for byte in key {
        name.push(*byte);
        if *byte == 0 {
            name.push(0xff);
        }
    }
    name.extend_from_slice(end);
    name.extend_from_slice(member);
    name.into_boxed_slice()
}

// Names are compared as their bytes are, however they are kept.

impl Borrow<[u8]> for SlotName {
    fn borrow(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl PartialEq for SlotName {
    fn eq(&self, other: &SlotName) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for SlotName {}

impl PartialOrd for SlotName {
    fn partial_cmp(&self, other: &SlotName) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for SlotName {
    fn cmp(&self, other: &SlotName) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl core::hash::Hash for SlotName {
    fn hash<H: core::hash::Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl fmt::Debug for SlotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SlotName({})", self.as_bytes().escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Bytes that need escaping and bytes that do not, on both sides of what is short.
    fn part() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(0u8..4, 0..2 * SHORT_BYTES)
    }

    #[test]
    #[cfg(target_pointer_width = "64")]
    fn a_name_is_three_words() {
        assert_eq!(size_of::<SlotName>(), 24);
    }

    proptest! {
        #[test]
        fn a_name_is_read_back(key in part(), member in proptest::option::of(part())) {
            let name = match &member {
                Some(member) => SlotName::member(&key, member),
                None => SlotName::value(&key),
            };
            prop_assert_eq!(SlotName::parts(name.as_bytes()), (key, member.as_deref()));
        }

        #[test]
        fn names_keep_the_order_of_keys(a in part(), b in part()) {
            let names = (SlotName::value(&a), SlotName::value(&b));
            prop_assert_eq!(names.0.cmp(&names.1), a.cmp(&b));
            if b.starts_with(&a) {
                prop_assert!(SlotName::value(&b).as_bytes().starts_with(&SlotName::prefix(&a)));
            }
        }

        #[test]
        fn short_and_long_names_are_encoded_alike(key in part(), member in part()) {
            let name = SlotName::member(&key, &member);
            prop_assert_eq!(name.as_bytes(), &escape(&key, &[0, 2], &member)[..]);
        }
    }
}
