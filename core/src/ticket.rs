//! A ticket: what a node must know to join a mesh, as one line of text.
//!
//! ```text
//! quorate1 base32(postcard(founding, contacts) checksum)
//! ```
//!
//! It names the store, by the founding that its id commits to, and some members with their addresses,
//! whom the newcomer trusts until it has learnt from the store who the members are. It admits nobody:
//! that is the invitation, an entry in the store. So a ticket is not a secret, and one that falls into
//! the wrong hands opens nothing.
//!
//! The text is made to survive being read aloud, wrapped by a mail program, or typed: lowercase base32
//! (RFC 4648, without padding), read without regard to case and spaces, with the first four bytes of a
//! BLAKE3 hash at the end, which find a mistyped letter. The digit in the prefix is the format's
//! version.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::handshake::MAX_ADDRESS;
use crate::node::Contact;
use crate::store::Founding;

/// What every ticket begins with, before its version.
const PREFIX: &str = "quorate";
/// The format that is written, and the only one that is read.
const VERSION: u32 = 1;
/// The most contacts in a ticket.
pub const MAX_TICKET_CONTACTS: usize = 8;
/// The longest ticket that is looked at, in bytes of text.
pub const MAX_TICKET_BYTES: usize = 8192;
const CHECKSUM_BYTES: usize = 4;
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// What a node must know to join a mesh. See the [module](self).
///
/// ```
/// use quorate_core::machine::NodeId;
/// use quorate_core::node::Contact;
/// use quorate_core::store::Founding;
/// use quorate_core::ticket::{Ticket, TicketError};
///
/// let founding = Founding { founder: NodeId([1; 32]), nonce: [2; 16] };
/// let contact = Contact { node: NodeId([1; 32]), address: "192.0.2.7:4470".into() };
/// let ticket = Ticket { founding, contacts: vec![contact] };
/// let text = ticket.to_string();
/// assert!(text.starts_with("quorate1"));
/// assert_eq!(text.parse(), Ok(ticket));
/// assert_eq!("hello".parse::<Ticket>(), Err(TicketError::NotATicket));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ticket {
    /// The store.
    pub founding: Founding,
    /// Members and where they listen. The first [`MAX_TICKET_CONTACTS`] are written.
    pub contacts: Vec<Contact>,
}

/// Why a text is not a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TicketError {
    /// It does not begin as a ticket does.
    NotATicket,
    /// It begins as a ticket, but something is missing or mistyped.
    Damaged,
    /// Its format is newer than this version of the program.
    Newer {
        /// The format's version.
        version: u32,
    },
}

impl fmt::Display for TicketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TicketError::NotATicket => {
                write!(f, "this is not a ticket: one begins with `{PREFIX}{VERSION}`")
            }
            TicketError::Damaged => {
                f.write_str("the ticket is incomplete or mistyped: copy the whole of it again")
            }
            TicketError::Newer { version } => write!(
                f,
                "the ticket has format {version} and this program reads {VERSION}: update it"
            ),
        }
    }
}

impl core::error::Error for TicketError {}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let contacts = self.contacts.iter().take(MAX_TICKET_CONTACTS).cloned().collect();
        let written = Ticket { founding: self.founding, contacts };
        let mut bytes = postcard::to_allocvec(&written).map_err(|_| fmt::Error)?;
        bytes.extend_from_slice(&checksum(&bytes));
        write!(f, "{PREFIX}{VERSION}{}", encode(&bytes))
    }
}

impl FromStr for Ticket {
    type Err = TicketError;

    fn from_str(text: &str) -> Result<Ticket, TicketError> {
        let text: String = text
            .chars()
            .take(MAX_TICKET_BYTES + 1)
            .filter(|c| !c.is_whitespace())
            .map(|c| c.to_ascii_lowercase())
            .collect();
        let rest = text.strip_prefix(PREFIX).ok_or(TicketError::NotATicket)?;
        // The alphabet has digits from 2 on, so the version ends where base32 begins only for 1 and
        // for numbers that a later format would have to set off by itself.
        match rest.bytes().next() {
            None => return Err(TicketError::Damaged),
            Some(b'1') => {}
            Some(digit @ b'2'..=b'9') => {
                return Err(TicketError::Newer { version: u32::from(digit - b'0') });
            }
            Some(_) => return Err(TicketError::NotATicket),
        }
        if text.len() > MAX_TICKET_BYTES {
            return Err(TicketError::Damaged);
        }
        let bytes = decode(&rest[1..]).ok_or(TicketError::Damaged)?;
        let at = bytes.len().checked_sub(CHECKSUM_BYTES).ok_or(TicketError::Damaged)?;
        let (body, sum) = bytes.split_at(at);
        if sum != checksum(body) {
            return Err(TicketError::Damaged);
        }
        match postcard::take_from_bytes::<Ticket>(body) {
            Ok((ticket, [])) if ticket.is_within_bounds() => Ok(ticket),
            _ => Err(TicketError::Damaged),
        }
    }
}

impl Ticket {
    fn is_within_bounds(&self) -> bool {
        self.contacts.len() <= MAX_TICKET_CONTACTS
            && self.contacts.iter().all(|contact| contact.address.len() <= MAX_ADDRESS)
    }
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut hasher = blake3::Hasher::new_derive_key("quorate 2026 ticket checksum");
    hasher.update(bytes);
    let [a, b, c, d, ..] = *hasher.finalize().as_bytes();
    [a, b, c, d]
}

fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(5) * 8);
    let (mut held, mut bits) = (0u32, 0);
    for byte in bytes {
        held = (held << 8) | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            text.push(char::from(ALPHABET[(held >> bits) as usize & 31]));
        }
    }
    if bits > 0 {
        text.push(char::from(ALPHABET[(held << (5 - bits)) as usize & 31]));
    }
    text
}

/// The bytes that [`encode`] made `text` of; `None` for any other text.
fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 5 / 8);
    let (mut held, mut bits) = (0u32, 0);
    for letter in text.bytes() {
        let value = match letter {
            b'a'..=b'z' => letter - b'a',
            b'2'..=b'7' => letter - b'2' + 26,
            _ => return None,
        };
        held = (held << 5) | u32::from(value);
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits) as u8);
        }
    }
    // What is left over is less than a letter, and zero.
    (bits < 5 && held & ((1 << bits) - 1) == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::NodeId;
    use alloc::string::ToString;
    use proptest::prelude::*;

    fn ticket(contacts: usize) -> Ticket {
        let contact = |n: usize| Contact {
            node: NodeId([n as u8; 32]),
            address: alloc::format!("node{n}.example:4470"),
        };
        let founding = Founding { founder: NodeId([7; 32]), nonce: [9; 16] };
        Ticket { founding, contacts: (0..contacts).map(contact).collect() }
    }

    #[test]
    fn the_text_is_fixed() {
        insta::assert_snapshot!(ticket(1).to_string());
    }

    #[test]
    fn case_and_spaces_do_not_matter() {
        let text = ticket(2).to_string().to_uppercase();
        let (start, end) = text.split_at(40);
        assert_eq!(alloc::format!(" {start}\n  {end}\n").parse(), Ok(ticket(2)));
    }

    #[test]
    fn what_is_no_ticket_is_told_from_a_newer_one() {
        let parse = |text: &str| text.parse::<Ticket>();
        assert_eq!(parse(""), Err(TicketError::NotATicket));
        assert_eq!(parse("quorum1abc"), Err(TicketError::NotATicket));
        assert_eq!(parse("quorate"), Err(TicketError::Damaged));
        assert_eq!(parse("quorate1"), Err(TicketError::Damaged));
        assert_eq!(parse("quorate2whatever"), Err(TicketError::Newer { version: 2 }));
        let long = alloc::format!("quorate1{}", "a".repeat(1 << 20));
        assert_eq!(parse(&long), Err(TicketError::Damaged));
    }

    #[test]
    fn no_more_contacts_are_written_than_are_read() {
        let text = ticket(MAX_TICKET_CONTACTS + 5).to_string();
        assert_eq!(text.parse(), Ok(ticket(MAX_TICKET_CONTACTS)));
    }

    proptest! {
        #[test]
        fn base32_is_read_back(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(decode(&encode(&bytes)), Some(bytes));
        }

        #[test]
        fn a_truncated_ticket_is_an_error(cut in 0usize..200) {
            let text = ticket(1).to_string();
            prop_assume!(cut < text.len());
            prop_assert!(text[..cut].parse::<Ticket>().is_err());
        }

        #[test]
        fn a_flipped_bit_is_an_error(bit in 0usize..1600) {
            let mut bytes = decode(&ticket(1).to_string()[8..]).unwrap();
            prop_assume!(bit / 8 < bytes.len());
            bytes[bit / 8] ^= 1 << (bit % 8);
            let text = alloc::format!("quorate1{}", encode(&bytes));
            prop_assert_eq!(text.parse::<Ticket>(), Err(TicketError::Damaged));
        }

        #[test]
        fn one_wrong_letter_is_an_error(at in 8usize..200, to in 0usize..32) {
            let mut text = ticket(1).to_string().into_bytes();
            prop_assume!(at < text.len() && text[at] != ALPHABET[to]);
            text[at] = ALPHABET[to];
            let text = String::from_utf8(text).unwrap();
            prop_assert_eq!(text.parse::<Ticket>(), Err(TicketError::Damaged));
        }

        #[test]
        fn garbage_never_panics(text in "\\PC{0,80}", body in proptest::collection::vec(any::<u8>(), 0..80)) {
            prop_assert!(text.parse::<Ticket>().is_err());
            let mut bytes = body.clone();
            bytes.extend_from_slice(&checksum(&body));
            let _ = alloc::format!("quorate1{}", encode(&bytes)).parse::<Ticket>();
        }
    }
}
